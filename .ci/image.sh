#!/bin/sh
# The steps of the Dockerfile, each a layer of its own. They run on any machine, from the folder of Cargo.toml:
#
#   image.sh tools                          unpacks vendor.tar, if there is one, and installs cargo-auditable
#   image.sh dependencies FEATURE PROGRAM   builds what PROGRAM depends on: Cargo.toml and Cargo.lock suffice
#   image.sh program FEATURE PROGRAM OUT    builds PROGRAM into the folder OUT, with its dependencies noted in it
set -eu
# The newest version when this was written; it writes the format that Rust's security tools read.
auditable=0.7.7

build() {
  cargo auditable build --locked --release --no-default-features --features "$1" --bin "$2"
}

case $1 in
tools)
  if [ -f vendor.tar ]; then
    tar -xf vendor.tar
    rm vendor.tar
  fi
  # cargo install does not look for this file itself.
  set --
  [ ! -f .cargo/config.toml ] || set -- --config .cargo/config.toml
  command -v cargo-auditable > /dev/null || cargo install "$@" --locked --version "$auditable" cargo-auditable
  ;;
dependencies)
  mkdir -p src/bin/kubectl-acs
  : > src/lib.rs
  for main in src/main.rs src/bin/acs-emulator.rs src/bin/kubectl-acs/main.rs; do
    echo 'fn main() {}' > "$main"
  done
  build "$2" "$3"
  ;;
program)
  # Newer than what was built from the empty sources, whatever times the files came with.
  find src -name '*.rs' -exec touch {} +
  build "$2" "$3"
  mkdir -p "$4"
  cp "${CARGO_TARGET_DIR:-target}/release/$3" "$4/$3"
  ;;
*)
  echo "image.sh: there is no step $1" >&2
  exit 1
  ;;
esac
