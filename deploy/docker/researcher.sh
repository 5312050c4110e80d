#!/bin/sh
# Run a command as a researcher, from a home made at the first start; `lab` is JupyterLab, opened by the token in TOKEN.
set -eu
kit=${KIT:-/kit}
export WARREN_HOME="${WARREN_HOME:-/home/warren/home}"

[ -d "$WARREN_HOME/kit" ] || warren-researcher init "$WARREN_HOME" --kit "$kit"
[ "${1:-}" = lab ] || exec warren-researcher "$@"

work=${WORK:-/home/warren/work}
cp -n "${EXAMPLES:-/warren/examples}"/* "$work/"
cd "$work"
umask 077
export JUPYTER_CONFIG_DIR="$work/.jupyter" JUPYTER_RUNTIME_DIR="$work/.runtime" JUPYTER_DATA_DIR="$work/.data"
export HOME="$work" JUPYTER_TOKEN_FILE="${TOKEN:-/run/secrets/token}"
exec jupyter lab --ip "${ADDRESS:-0.0.0.0}" --port "${PORT:-8888}" --no-browser
