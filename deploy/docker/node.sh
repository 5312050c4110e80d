#!/bin/sh
# Run the node $PARTY: make its home and register its data at the first start.
set -eu
federation=${FEDERATION:-/federation}
data=${DATA:-/data}
home=${NODE_HOME:-/home/warren/home}

[ -e "$home/policy.toml" ] || warren-node init "$home" --kit "$federation/kits/$PARTY"
warren-node dataset show "$home" heart >/dev/null 2>&1 ||
  warren-node dataset add "$home" --path "$data/$PARTY.csv" --name heart --tags heart,uci --description "UCI heart disease"
exec warren-node start "$home"
