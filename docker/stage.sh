#!/bin/sh
# Puts programs where an image has them, with what they load from beside themselves, the list of the packages that were
# linked into them, and those packages' licences: stage.sh BIN STAGE
set -eu
bin=$1
stage=$2
docs=$stage/usr/share/doc/yoio
mkdir -p "$stage/usr/local/bin" "$docs/licences"

# Function names stay in the programs: the record of a failure names those on the stacks.
for program in yoio-server yoio; do
  strip --strip-debug -o "$stage/usr/local/bin/$program" "$bin/$program"
done
for library in "$bin"/*.so*; do
  install -s -m 644 "$library" "$stage/usr/local/bin/"
done

# What no folder of the image will hold is said now, not when it starts.
for program in yoio-server yoio; do
  if ldd "$stage/usr/local/bin/$program" | grep 'not found' | grep -vE 'libcuda|libcublas|libnccl'; then
    echo "stage: $program needs what stands above, and no library of that name is beside it" >&2
    exit 1
  fi
done

# Development packages are those that were linked; the libraries behind them bring the licences.
dpkg-query -W -f '${db:Status-Status}\t${Package}\t${Version}\t${source:Package}\n' |
  awk -F '\t' '$1 == "installed" && $2 ~ /^lib.*-dev/ { print $2 "\t" $3 "\t" $4 }' >"$docs/linked-packages.tsv"
cut -f 1 "$docs/linked-packages.tsv" | sed 's/:.*//' | while read -r package; do
  if [ -e "/usr/share/doc/$package/copyright" ]; then
    cp -L "/usr/share/doc/$package/copyright" "$docs/licences/$package"
  fi
done
