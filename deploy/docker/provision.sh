#!/bin/sh
# Make the federation of docker-compose.yml, and give each container the files that it needs and no others. Can be repeated.
# Every folder below is a volume of its own; the passwords are drawn here, once, and stand nowhere else.
set -eu
federation=${FEDERATION:-/federation}
broker=${BROKER:-/broker}
kits=${KITS:-/kits}
data=${DATA:-/data}
plan=${PLAN_DIR:-/plan}
secrets=${SECRETS:-/secrets}
researchers=${RESEARCHERS:-alice demo}
nodes=${NODES:-cleveland hungary switzerland va}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
secret() { [ -e "$1" ] || { (umask 077 && printf '%s' "$2" >"$1.new") && mv "$1.new" "$1"; }; }

[ -e "$federation/federation.toml" ] || warren federation init "$federation" --name trial --host rabbitmq --port 5671
for party in $researchers; do
  [ -d "$federation/kits/$party" ] || warren federation add-researcher "$federation" "$party"
done
for party in $nodes; do
  [ -d "$federation/kits/$party" ] || warren federation add-node "$federation" "$party"
done
[ -e "$broker/rabbitmq.conf" ] ||
  warren broker definitions "$federation" --out "$broker" --metrics-address "${METRICS_ADDRESS:-127.0.0.1}"
for party in $researchers $nodes; do
  mkdir -p "$kits/$party"
  [ -e "$kits/$party/connection.toml" ] || cp "$federation/kits/$party"/* "$kits/$party/"
done
[ -e "$data/.made/cleveland.csv" ] || warren data "$data/.made"
for party in $nodes; do
  mkdir -p "$data/$party"
  [ -e "$data/$party/data.csv" ] || cp "$data/.made/$party.csv" "$data/$party/data.csv"   # a file that changes is refused
done

mkdir -p "$plan"
[ -e "$plan/heart_plan.py" ] ||
  warren-researcher plan "${EXAMPLES:-/warren/examples}/heart.toml" --out "$plan/heart_plan.py" >/dev/null   # as nodes see it

mkdir -p "$secrets/jupyter" "$secrets/metrics" "$secrets/prometheus" "$secrets/grafana"
secret "$secrets/jupyter/token" "$(random)"
secret "$secrets/prometheus/metrics_password" "$(random)"
secret "$secrets/metrics/login" "prometheus:$(cat "$secrets/prometheus/metrics_password")"
secret "$secrets/grafana/admin_password" "$(random)"

if [ "$(id -u)" -eq 0 ]; then
  chown -R 1000:1000 "$federation" "$kits" "$data" "$plan" "$secrets/jupyter" "$secrets/metrics"   # warren, in the image of the parties
  chown -R 999:999 "$broker"                                                               # rabbitmq
  chown -R 65534:65534 "$secrets/prometheus"                                               # nobody, as which Prometheus runs
  chown -R 472:472 "$secrets/grafana"                                                      # grafana
fi
