#!/bin/sh
# Make the federation of docker-compose.yml: its kits, the files of its broker, and the demo's data. Can be repeated.
set -eu
federation=${FEDERATION:-/federation}
broker=${BROKER:-/broker}
data=${DATA:-/data}

[ -e "$federation/federation.toml" ] || warren federation init "$federation" --name trial --host rabbitmq --port 5671
[ -d "$federation/kits/alice" ] || warren federation add-researcher "$federation" alice
[ -d "$federation/kits/cleveland" ] || warren federation add-node "$federation" cleveland
[ -d "$federation/kits/hungary" ] || warren federation add-node "$federation" hungary
[ -e "$broker/rabbitmq.conf" ] || warren broker definitions "$federation" --out "$broker"
[ -e "$data/cleveland.csv" ] || warren data "$data"

if [ "$(id -u)" -eq 0 ]; then
  chown -R 1000:1000 "$federation" "$data"   # warren, in the image of the parties
  chown -R 999:999 "$broker"                 # rabbitmq, in the image of the broker
fi
