#!/bin/bash
# Builds an image without a daemon and tries it: image.sh cpu|cuda. Needs root, and the group `image` of packages.txt.
#
# The base is a plain Debian made here, in place of Docker Hub's debian:12-slim. For `cuda`, it stands in for NVIDIA's
# two bases as well: the toolkit is that of this machine, mounted while building, and the image holds neither cuBLAS nor
# NCCL, so it is built and not run.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
version=$(sed -n 's/^project(yoio VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
folder=$PWD/build/image
base=localhost/debian:12-slim
image=localhost/yoio:$version-$target
mkdir -p "$folder"

export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
builder=(buildah --root "$folder/storage" --runroot "$folder/run")

if ! "${builder[@]}" inspect --type image "$base" >/dev/null 2>&1; then
  echo "-- making a Debian base"
  # As in the slim images: no documentation but licences, no translations.
  mmdebstrap --quiet --variant=minbase --include=ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/info/*' \
    bookworm "$folder/base.tar" \
    'deb http://deb.debian.org/debian bookworm main' \
    'deb http://deb.debian.org/debian bookworm-updates main' \
    'deb http://deb.debian.org/debian-security bookworm-security main'
  container=$("${builder[@]}" from scratch)
  "${builder[@]}" add --quiet "$container" "$folder/base.tar" / >/dev/null
  "${builder[@]}" config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  "${builder[@]}" commit --quiet "$container" "$base" >/dev/null
  "${builder[@]}" rm "$container" >/dev/null
  rm "$folder/base.tar"
fi

options=(--build-arg "CPU_BASE=$base")
if [ "$target" = cuda ]; then
  cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")
  options=(--build-arg "CUDA_DEVEL=$base" --build-arg "CUDA_BASE=$base" --build-arg CUDA_PACKAGES=
    --volume "$cuda:/usr/local/cuda:ro")
fi
echo "-- building $image"
"${builder[@]}" bud --quiet --layers --format docker --file docker/Dockerfile --target "$target" --tag "$image" \
  --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "${options[@]}" . >"$folder/$target.log" 2>&1 || {
  tail -n 50 "$folder/$target.log"
  exit 1
}

echo "-- trying it"
container=$("${builder[@]}" from "$image")
trap '"${builder[@]}" umount "$container" >/dev/null; "${builder[@]}" rm "$container" >/dev/null' EXIT
"${builder[@]}" inspect --type image "$image" >"$folder/$target.json"
python3 docker/try_image.py "$target" "$folder/$target.json" "$("${builder[@]}" mount "$container")"
