#!/bin/bash
# Hides a fact in a long document and lets the shipped model find it: starts a server, asks it through
# `yoio generate`, compares, stops the server.
#
#   scripts/demo.sh [BIN_DIR]
#
# BIN_DIR holds yoio-server and yoio (build/cpu/bin). Exits 0 when the fact was found.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${1:-build/cpu/bin}
model=models/yoio-tiny
least_tokens=16000

work=$(mktemp -d)
server_pid=

# Two lines: what happened, what to do.
fail() {
  printf 'demo: %s\n%s\n' "$1" "$2" >&2
  exit 1
}

clean_up() {
  if [ -n "$server_pid" ]; then
    kill "$server_pid" 2>/dev/null || true
    wait "$server_pid" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# A number from 0 to $1 - 1, drawn by the kernel.
draw() {
  echo $(($(od -An -N4 -tu4 /dev/urandom) % $1))
}

# One of the words of line "$1: ..." of the model's word list.
draw_word() {
  local words
  read -ra words <<<"$(sed -n "s/^$1: //p" "$model/demo/words.txt")"
  echo "${words[$(draw ${#words[@]})]}"
}

# Writes $work/document.txt: the model's demo text with the fact on a line of its own and the question last.
make_document() {
  local text=$model/demo/document.txt lines
  lines=$(wc -l <"$text")
  place=$(($(draw "$lines") + 1))
  key="$(draw_word adjectives) $(draw_word nouns)"
  fact=$(printf '%05d' "$(draw 100000)")
  {
    head -n "$place" "$text"
    echo "Remember: the $key code is $fact."
    tail -n +$((place + 1)) "$text"
    printf '\nThe %s code is' "$key"
  } >"$work/document.txt"
  echo "-- hid \"Remember: the $key code is $fact.\" after line $place of $lines"
}

# Starts the server and sets `server` to its address.
start_server() {
  echo "-- starting yoio-server on $model"
  "$bin/yoio-server" --model "$model" --listen 127.0.0.1:0 --health-listen 127.0.0.1:0 --metrics-listen off \
    >"$work/server.out" 2>"$work/server.err" &
  server_pid=$!
  local tenths=0
  until server=$(sed -n 's/^yoio-server ready listen=\([^ ]*\) .*/\1/p' "$work/server.out") && [ -n "$server" ]; do
    if ! kill -0 "$server_pid" 2>/dev/null; then
      cat "$work/server.err" >&2
      fail "the server did not start; its last words stand above." "Put that right, then run: make demo"
    fi
    [ "$tenths" -lt 600 ] || fail "the server is not ready after 60 s." "Run it by hand: $bin/yoio-server --model $model"
    sleep 0.1
    tenths=$((tenths + 1))
    [ $((tenths % 10)) -ne 0 ] || echo "   ... loading, $((tenths / 10)) s"
  done
}

check_length() {
  local tokens
  tokens=$("$bin/yoio" tokenize --server "$server" --count --file "$work/document.txt")
  [ "$tokens" -ge "$least_tokens" ] ||
    fail "the document has $tokens tokens, fewer than $least_tokens." "Restore $model/demo/document.txt."
  echo "-- the document has $tokens tokens"
}

if [ ! -x "$bin/yoio-server" ] || [ ! -x "$bin/yoio" ]; then
  fail "$bin holds no yoio-server and yoio." "Build them and run this script: make demo"
fi

make_document
start_server
check_length

echo "-- asking: The $key code is ..."
"$bin/yoio" generate --server "$server" --file "$work/document.txt" --temperature 0 --max-tokens 16 \
  --progress --timing | tee "$work/answer"

found=$(grep -o '[0-9]\+' "$work/answer" | head -n 1 || true)
echo "-- expected $fact, found ${found:-nothing}"
[ "$found" = "$fact" ] ||
  fail "the model did not find the fact." "Run it again; models/yoio-tiny/README.md says how often this happens."
