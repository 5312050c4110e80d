#!/bin/sh
# Install the RabbitMQ server program from the system's packages when it is absent. The package would also start a system-wide
# broker: that is prevented, because Warren starts private ones only. Exits 0 in any case: who needs a broker says so clearly.
set -u
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && exit 0

say() { echo "warren: $*" >&2; }

if ! command -v apt-get >/dev/null 2>&1; then
  say "RabbitMQ is not installed and this system has no apt-get; install rabbitmq-server (3.10 or later) by hand"
  exit 0
fi
if [ "$(id -u)" -eq 0 ]; then as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo"
else
  say "RabbitMQ is not installed; as root: apt-get install -y --no-install-recommends rabbitmq-server"
  exit 0
fi

say "installing RabbitMQ from the system's packages"
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" && made_policy=yes
fi
export DEBIAN_FRONTEND=noninteractive
install="$as_root apt-get install -y -qq --no-install-recommends rabbitmq-server"
$install >/dev/null 2>&1 || { $as_root apt-get update -qq >/dev/null 2>&1; $install >/dev/null 2>&1; }
[ -n "$made_policy" ] && $as_root rm -f "$policy"
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || say "RabbitMQ could not be installed from the system's packages"
exit 0
