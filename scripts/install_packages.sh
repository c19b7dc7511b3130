#!/bin/sh
# Installs the distribution's packages that packages.txt lists.
#
#   scripts/install_packages.sh [--list] [GROUP...]
#
# A GROUP is a heading of packages.txt (build, test, sanitizers); without one, all of them. --list prints the
# names and installs nothing. Returns at once when nothing is missing. Without root, or on a system without
# apt, it prints the one command to run instead and exits 1.
set -eu

cd "$(dirname "$0")/.."

list_only=
if [ "${1:-}" = --list ]; then
  list_only=yes
  shift
fi

for group in "$@"; do
  grep -q "^\[$group\]" packages.txt || {
    echo "install_packages: packages.txt has no group '$group'." >&2
    echo "Name any of: $(sed -n 's/^\[\(.*\)\].*/\1/p' packages.txt | tr '\n' ' ')" >&2
    exit 1
  }
done

packages=$(awk -v groups=" $* " '
  { sub(/#.*/, "") }
  /^\[/ { gsub(/[][ ]/, ""); wanted = groups ~ /^ *$/ || index(groups, " " $0 " "); next }
  NF && wanted { print $1 }' packages.txt)

if [ -n "$list_only" ]; then
  echo "$packages"
  exit 0
fi

if ! command -v dpkg-query >/dev/null; then
  echo "install_packages: this system has no dpkg; yoio builds on Debian 12 and Ubuntu 24.04." >&2
  echo "Install what packages.txt lists by other means, then run: make build" >&2
  exit 1
fi

# shellcheck disable=SC2086  # One word per package.
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null |
  sed -n 's/^installed //p' || true)
missing=
for package in $packages; do
  echo "$installed" | grep -qxF "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "These packages are missing; install them with this command, then try again:" >&2
  echo "  sudo apt-get install -y --no-install-recommends$missing" >&2
  exit 1
fi

count=$(echo "$missing" | wc -w)
echo "Installing $count packages of packages.txt and what they depend on; a few minutes at most."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs a command quietly: a dot every two seconds, its output only if it fails.
quietly() {
  "$@" >"$log" 2>&1 &
  pid=$!
  while sleep 2 && kill -0 "$pid" 2>/dev/null; do printf .; done
  if ! wait "$pid"; then
    echo
    cat "$log" >&2
    echo "install_packages: '$*' failed; its output stands above." >&2
    echo "Repair the package sources (or run it by hand), then try again." >&2
    exit 1
  fi
}

# Nothing that comes is to run as a service: tests start what they need.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$log" "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
fi

export DEBIAN_FRONTEND=noninteractive
quietly apt-get update
# shellcheck disable=SC2086
quietly apt-get install -y --no-install-recommends $missing
echo " done."
