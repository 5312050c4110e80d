#!/bin/sh
# Run a node: make its home at the first start, and register its table and approve a plan if it is told to.
#   KIT      folder of its kit                 DATASET  table to register with the tags TAGS, under the name NAME
#   HOME_DIR its home                          PLAN     file of a plan that its people approve
#   GUI      serve its web page at port 8484 of the container, if set
set -eu
kit=${KIT:-/kit}
home=${HOME_DIR:-/home/warren/home}

[ -e "$home/policy.toml" ] || warren-node init "$home" --kit "$kit"
if [ -n "${DATASET:-}" ]; then
  warren-node dataset show "$home" "$NAME" >/dev/null 2>&1 ||
    warren-node dataset add "$home" --path "$DATASET" --name "$NAME" --tags "$TAGS" --description "${DESCRIPTION:-$NAME}"
fi
if [ -n "${PLAN:-}" ]; then
  warren-node plan approve "$home" --file "$PLAN" --note "approved by who runs this trial"
fi
if [ -n "${GUI:-}" ]; then
  exec warren-node start "$home" --gui --gui-host 0.0.0.0
fi
exec warren-node start "$home"
