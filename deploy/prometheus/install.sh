#!/bin/sh
# Install Prometheus (prometheus, promtool) from the system's packages when it is absent. The package would also start a system-wide
# server: that is prevented, because the tests start private ones only. Exits 0 in any case: the tests that need it say so clearly.
set -u
command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1 && exit 0

say() { echo "warren: $*" >&2; }

if ! command -v apt-get >/dev/null 2>&1; then
  say "Prometheus is not installed and this system has no apt-get; install prometheus and promtool (2.40 or later) by hand"
  exit 0
fi
if [ "$(id -u)" -eq 0 ]; then as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo"
else
  say "Prometheus is not installed; as root: apt-get install -y --no-install-recommends prometheus"
  exit 0
fi

say "installing Prometheus from the system's packages"
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" && made_policy=yes
fi
export DEBIAN_FRONTEND=noninteractive
install="$as_root apt-get install -y -qq --no-install-recommends prometheus"
$install >/dev/null 2>&1 || { $as_root apt-get update -qq >/dev/null 2>&1; $install >/dev/null 2>&1; }
[ -n "$made_policy" ] && $as_root rm -f "$policy"
command -v promtool >/dev/null 2>&1 || say "Prometheus could not be installed from the system's packages"
exit 0
