#!/bin/sh
# Install a server program from the system's packages when it is absent: install_package.sh NAME PACKAGE PROGRAM VERSION, where PROGRAM
# is a command or a path that shows that it is there. The package would also start a system-wide server: that is prevented, because
# Warren starts private ones only. Exits 0 in any case: who needs the program says so clearly.
set -u
name=$1 package=$2 program=$3 version=$4
command -v "$program" >/dev/null 2>&1 && exit 0

say() { echo "warren: $*" >&2; }

if ! command -v apt-get >/dev/null 2>&1; then
  say "$name is not installed and this system has no apt-get; install $package ($version or later) by hand"
  exit 0
fi
if [ "$(id -u)" -eq 0 ]; then as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then as_root="sudo"
else
  say "$name is not installed; as root: apt-get install -y --no-install-recommends $package"
  exit 0
fi

say "installing $name from the system's packages"
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null && $as_root chmod 755 "$policy" && made_policy=yes
fi
export DEBIAN_FRONTEND=noninteractive
install="$as_root apt-get install -y -qq --no-install-recommends $package"
$install >/dev/null 2>&1 || { $as_root apt-get update -qq >/dev/null 2>&1; $install >/dev/null 2>&1; }
[ -n "$made_policy" ] && $as_root rm -f "$policy"
command -v "$program" >/dev/null 2>&1 || say "$name could not be installed from the system's packages"
exit 0
