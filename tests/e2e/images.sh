#!/usr/bin/env bash
# images.sh FOLDER: archives of the images of the operator, the emulator and a shell, for `ctr images import`.
# They come from the Dockerfile where something builds it, else (or with E2E_IMAGES=stand-in) from images.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/e2e/told.sh
folder=$1
mkdir -p "$folder"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# What builds images here, as the Makefile finds it.
builder=
for tool in docker podman buildah; do
  [ -z "$builder" ] && command -v $tool >/dev/null && $tool info >/dev/null 2>&1 && builder=$tool
done

from_dockerfile() {
  local name image
  make image emulator-image IMAGE="e2e.local/acs-identity-operator:$version" EMULATOR_IMAGE="e2e.local/acs-emulator:$version" || return 1
  for name in acs-identity-operator acs-emulator; do
    image=e2e.local/$name:$version
    rm -f "$folder/$name.tar"
    case $builder in
    buildah) buildah push --quiet "$image" "docker-archive:$folder/$name.tar:$image" >/dev/null ;;
    *) $builder save --output "$folder/$name.tar" "$image" >/dev/null ;;
    esac || return 1
  done
}

if [ "${E2E_IMAGES:-}" = stand-in ]; then
  reason="E2E_IMAGES says so"
elif [ -z "$builder" ]; then
  reason="there is no docker, podman or buildah that works"
elif from_dockerfile; then
  say "images: the Dockerfile's, by $builder"
  tests/e2e/images.py "$folder" busybox
  exit
else
  reason="$builder could not build the Dockerfile, see above"
fi
say "images: a STAND-IN for the Dockerfile's ($reason): programs of this machine's Rust, static with glibc, little optimised"
tests/e2e/images.py "$folder" operator emulator busybox
