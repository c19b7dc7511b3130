#!/bin/sh
# Fetches a model: every file of CHECKSUMS ("SHA256  PATH" a line) from MODEL_URL into MODEL_DIRECTORY. A file
# is there only once its checksum is right, so that several pods may fetch into one volume. TOKEN_FILE, if set,
# holds what is sent to MODEL_URL; TIMEOUT_SECONDS bounds each file.
set -eu

matches() { # SUM FILE
  printf '%s  %s\n' "$1" "$2" | sha256sum -c >/dev/null 2>&1
}

# The token goes through standard input: arguments can be read by others. curl sends it to no other host.
fetch() { # URL FILE
  {
    if [ -n "${TOKEN_FILE:-}" ]; then
      printf 'header = "Authorization: Bearer %s"\n' "$(cat "$TOKEN_FILE")"
    fi
  } | curl --config - --fail --location --silent --show-error --retry 5 --retry-connrefused \
    --connect-timeout 20 --max-time "$TIMEOUT_SECONDS" --output "$2" "$1"
}

cd "$MODEL_DIRECTORY"
while read -r sum path; do
  if matches "$sum" "$path"; then
    echo "$path: is there"
    continue
  fi
  mkdir -p "$(dirname "$path")"
  part="$path.$(hostname).part"
  echo "$path: fetching"
  fetch "$MODEL_URL/$path" "$part"
  if ! matches "$sum" "$part"; then
    echo "$path: its SHA-256 is $(sha256sum "$part" | cut -d ' ' -f 1), expected $sum" >&2
    echo "Check model.download.files and model.download.revision." >&2
    rm -f "$part"
    exit 1
  fi
  mv "$part" "$path"
done <"$CHECKSUMS"
