#!/bin/bash
# Measures this machine: its ceilings, every kernel, and whole steps. On a GPU where there is one and nvcc to build for
# it, beside PyTorch's kernels if PyTorch is installed; else on the CPU. Where there are several GPUs, a model cut over
# them too. Results also go to build/bench/*.json, in the format of bench/results.
#
#   scripts/bench.sh [BIN]    BIN: a folder with benchmarks that were built elsewhere; without it they are built
set -euo pipefail
cd "$(dirname "$0")/.."

gpus=$(nvidia-smi -L 2>/dev/null | grep -c ^GPU || true)
has_gpu() { [ "$gpus" -gt 0 ]; }

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
measure() {  # NAME of the result, program, its arguments
  echo "-- ${*:2}"
  "$bin/$2" "${@:3}" --json "$out/$1.json"
}
measure kernels_bench kernels_bench
measure step_bench step_bench
if [ -x "$bin/server_bench" ]; then measure server_bench server_bench; fi
if has_gpu && [ -x "$bin/idle_bench" ]; then measure idle_bench idle_bench; fi
if [ "$gpus" -gt 1 ]; then
  ranks=1,2
  if [ "$gpus" -ge 4 ]; then ranks=1,2,4; fi
  measure comm_bench comm_bench
  measure step_bench-ranks step_bench --shape bench/shapes/clsa-8b --ranks $ranks --index-sharding rank0,rows \
    --context 131072
  if [ -x "$bin/idle_bench" ]; then
    measure idle_bench-ranks idle_bench --shape bench/shapes/clsa-8b --ranks $ranks --batch 1,32
  fi
fi
if has_gpu && python3 -c 'import torch' 2>/dev/null; then
  echo "-- peers.py"
  python3 bench/peers.py --json "$out/peers.json"
fi
