#!/bin/bash
# Measures this machine: its ceilings, every kernel, and whole steps. On a GPU where there is one and nvcc to build for
# it, beside PyTorch's kernels if PyTorch is installed; else on the CPU. Results also go to build/bench/*.json, in the
# format of bench/results.
#
#   scripts/bench.sh [BIN]    BIN: a folder with benchmarks that were built elsewhere; without it they are built
set -euo pipefail
cd "$(dirname "$0")/.."

has_gpu() { [[ $(nvidia-smi -L 2>/dev/null) == GPU* ]]; }

bin=${1:-}
if [ -z "$bin" ]; then
  preset=cpu
  if has_gpu; then
    if command -v nvcc >/dev/null; then preset=cuda; else echo "-- a GPU, but no nvcc: measuring the CPU"; fi
  fi
  scripts/build.sh $preset bench/all
  bin=build/$preset/bin
fi

out=build/bench
mkdir -p "$out"
measure() {
  echo "-- $1"
  "$bin/$1" --json "$out/$1.json"
}
measure kernels_bench
measure step_bench
if has_gpu && [ -x "$bin/idle_bench" ]; then measure idle_bench; fi
if has_gpu && python3 -c 'import torch' 2>/dev/null; then
  echo "-- peers.py"
  python3 bench/peers.py --json "$out/peers.json"
fi
