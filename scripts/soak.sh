#!/bin/bash
# Keeps a server busy with callers of all kinds and checks that nothing creeps: starts yoio-server with the shipped
# model, sends it 256 streams at a time with `yoio bench` (20% cancelled, 5% with deadlines too short, 5% who read
# slowly), samples the process meanwhile, stops it, and judges (scripts/soak_check.py).
#
#   scripts/soak.sh [BIN_DIR [SECONDS]]
#
# BIN_DIR holds yoio-server and yoio (build/cpu/bin); SECONDS are those of the measurement (600), after a warm-up of a
# quarter of that. SOAK_STREAMS (256), SOAK_TOLERANCE (0.02: what may not creep by more) and SOAK_SCHEDULER_SECONDS (0.001:
# most of a step, at p99, for the scheduler itself) can be set. Exits 0 when all is well. What was measured stays in build/soak.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${1:-build/cpu/bin}
seconds=${2:-600}
streams=${SOAK_STREAMS:-256}
tolerance=${SOAK_TOLERANCE:-0.02}
model=models/yoio-tiny
out=${SOAK_OUT:-build/soak}
start_seconds=120

server_pid=
load_pid=

# Two lines: what happened, what to do.
fail() {
  printf 'soak: %s\n%s\n' "$1" "$2" >&2
  exit 1
}

clean_up() {
  local pid
  for pid in $load_pid $server_pid; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# The cache is small enough to be in use from end to end when the warm-up is over: what is resident then stays. A
# connection that has reached its age counts twice while its last streams run: none does.
start_server() {
  "$bin/yoio-server" --model "$model" --listen 127.0.0.1:0 --health-listen off --metrics-listen off \
    --kv-cache-bytes 192MiB --max-connection-age 24h >"$out/server.out" 2>"$out/server.log" &
  server_pid=$!
  local deadline=$((SECONDS + start_seconds))
  while ! grep -q '^yoio-server ready' "$out/server.out"; do
    if ! kill -0 "$server_pid" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
      server_pid=
      fail "the server did not start" "Read $out/server.log."
    fi
    sleep 0.1
  done
  address=$(sed -n 's/^yoio-server ready listen=\([^ ]*\).*/\1/p' "$out/server.out")
}

start_load() {
  "$bin/yoio" bench --server "$address" --concurrency "$streams" --connections 4 --warm-up $((seconds / 4)) \
    --duration "$seconds" --prompt-tokens 16:256 --output-tokens 8:128 --shared-prefix 128:0.3:8 --cancel 0.2 \
    --expire 0.05 --slow-reader 0.05 --json >"$out/load.json" 2>"$out/load.err" &
  load_pid=$!
}

# One line a second while the load lasts: seconds, resident kB, threads, open files.
sample() {
  local begin=$SECONDS status="/proc/$server_pid/status"
  while kill -0 "$load_pid" 2>/dev/null; do
    echo "$((SECONDS - begin)) $(awk '/^VmRSS/ {print $2}' "$status") $(awk '/^Threads/ {print $2}' "$status")" \
      "$(find "/proc/$server_pid/fd" -mindepth 1 | wc -l)"
    sleep 1
  done >"$out/samples.txt"
}

# What the server says it holds once everybody has gone.
ask_for_load() {
  sleep 2
  "$bin/yoio" info --server "$address" --json >"$out/info.json"
}

stop_server() {
  kill -TERM "$server_pid"
  server_code=0
  wait "$server_pid" || server_code=$?
  server_pid=
}

mkdir -p "$out"
start_server
echo "-- $streams streams at a time for $seconds s, after a warm-up of $((seconds / 4)) s"
start_load
sample
load_code=0
wait "$load_pid" || load_code=$?
load_pid=
[ "$load_code" = 0 ] || fail "yoio bench ended with $load_code" "Read $out/load.json, $out/load.err and $out/server.log."
ask_for_load
stop_server
[ "$server_code" = 0 ] || fail "the server ended with $server_code" "Read $out/server.log."
python3 scripts/soak_check.py "$out" "$seconds" "$tolerance"
