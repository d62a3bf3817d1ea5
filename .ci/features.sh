#!/usr/bin/env bash
# Checks that each program compiles with its feature alone, and without what only the others need.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo=${CARGO:-cargo}

# check FEATURE PROGRAM CRATE...: builds PROGRAM with FEATURE, whose dependencies have none of the crates.
check() {
  local feature=$1 program=$2 crate
  shift 2
  local dependencies
  dependencies=$("$cargo" tree --locked --no-default-features --features "$feature" --edges normal --prefix none)
  for crate in "$@"; do
    if grep -q "^$crate v" <<<"$dependencies"; then
      echo "features: $program depends on $crate, which its feature \"$feature\" should leave out" >&2
      exit 1
    fi
  done
  "$cargo" clippy --quiet --locked --no-default-features --features "$feature" --lib --bin "$program" -- -D warnings
}

check operator acs-identity-operator anstream anstyle-query clap_complete rcgen
check emulator acs-emulator anstream azure_core clap_complete kube reqwest schemars
check plugin kubectl-acs azure_core azure_identity prometheus-client rcgen reqwest
