#!/bin/sh
# Run a command of the researcher alice: make her home at the first one.
set -eu
federation=${FEDERATION:-/federation}
export WARREN_HOME="${WARREN_HOME:-/home/warren/home}"

[ -d "$WARREN_HOME/kit" ] || warren-researcher init "$WARREN_HOME" --kit "$federation/kits/alice"
exec warren-researcher "$@"
