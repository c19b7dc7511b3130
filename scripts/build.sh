#!/bin/bash
# Configures and builds one CMake preset: build.sh PRESET [TARGET...]. Says what it does and shows progress.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
log=build/$preset.configure.log
mkdir -p build
echo "-- configuring $preset"
if ! cmake --preset "$preset" >"$log" 2>&1; then
  cat "$log"
  exit 1
fi
echo "-- building $preset${*:+: $*}"
ninja -C "build/$preset" "$@"
