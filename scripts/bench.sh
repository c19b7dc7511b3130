#!/bin/bash
# Measures this machine: its ceilings, every kernel, and whole steps at the shape clsa-500m. Results also go to
# build/bench/*.json, in the format of bench/results.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=build/cpu/bin
out=build/bench
mkdir -p "$out"
for name in kernels_bench index_bench step_bench; do
  echo "-- $name"
  "$bin/$name" --json "$out/$name.json"
done
