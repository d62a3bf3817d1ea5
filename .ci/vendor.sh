#!/usr/bin/env bash
# Writes vendor.tar: the sources of all dependencies and of cargo-auditable, with which the image is built
# without network. Takes them from the registry that cargo is configured for, or from its cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
version=$(sed -n 's/^auditable=//p' .ci/image.sh)

# cargo vendors what a package depends on: here cargo-auditable, then all that its own Cargo.lock names.
mkdir -p "$folder/tool/src" "$folder/result/.cargo"
: > "$folder/tool/src/lib.rs"
cat > "$folder/tool/Cargo.toml" <<TOML
[package]
name = "tool"
version = "0.0.0"
edition = "2024"
[dependencies]
cargo-auditable = "=$version"
TOML
cargo vendor --quiet --manifest-path "$folder/tool/Cargo.toml" "$folder/tools" > /dev/null
cargo vendor --quiet --locked --sync "$folder/tools/cargo-auditable/Cargo.toml" "$folder/result/vendor" > /dev/null
cp -R "$folder/tools/cargo-auditable" "$folder/result/vendor/cargo-auditable"
cat > "$folder/result/.cargo/config.toml" <<TOML
[source.crates-io]
replace-with = "vendor"
[source.vendor]
directory = "vendor"
TOML
tar -C "$folder/result" -cf vendor.tar .cargo vendor
echo "vendor.tar holds $(find "$folder/result/vendor" -mindepth 1 -maxdepth 1 | wc -l) packages, $(du -h vendor.tar | cut -f1)"
