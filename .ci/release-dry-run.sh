#!/usr/bin/env bash
# Makes a release as far as that goes without network and on one machine, and checks what came of it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fail() { echo "release-dry-run: $*" >&2; exit 1; }
say() { echo "==> $*"; }
rm -rf dist
release=.ci/release.sh
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
platform=linux_$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
registry=ghcr.io/example

say "the workflow"
linter=$(tests/support/control-plane/build.sh actionlint)/actionlint
"$linter" .github/workflows/*.yaml

say "the programs, each with its feature"
while read -r feature program; do
  $release program "$feature" "$program" "$platform"
  $release sbom "$program" "$platform"
done <<< $'operator acs-identity-operator\nplugin kubectl-acs\nemulator acs-emulator'
sizes=$(stat --format='%s' dist/"$platform"/{acs-identity-operator,kubectl-acs} | paste -sd+)
size=$((sizes))
echo "operator and plugin: $((size / 1024)) KiB; emulator: $(($(stat --format='%s' "dist/$platform/acs-emulator") / 1024)) KiB"
# The certificate authorities take 220 KiB of it.
[ $size -lt $((25 * 1024 * 1024 - 256 * 1024)) ] || fail "the image would be larger than 25 MiB"

say "the dependencies, read back from the binaries"
# has PROGRAM yes|no CRATE...: whether the binary's own list names the crates
has() {
  local program=$1 wanted=$2 crate names
  shift 2
  names=$(python3 -c 'import json, sys; print(*(c["name"] for c in json.load(sys.stdin)["components"]), sep="\n")' < "dist/${program}_$platform.cdx.json")
  for crate in "$@"; do
    if grep -qx "$crate" <<< "$names"; then found=yes; else found=no; fi
    [ $found = "$wanted" ] || fail "$program: in its list of dependencies, $crate is found: $found; expected: $wanted"
  done
  echo "$program: $(wc -l <<< "$names") dependencies"
}
has acs-identity-operator yes kube rustls reqwest
has acs-identity-operator no rcgen clap_complete anstream
has kubectl-acs yes kube clap_complete
has kubectl-acs no rcgen reqwest axum
has acs-emulator yes rcgen hyper
has acs-emulator no kube reqwest

say "the plugin's archive, and krew's manifest"
$release archive "$platform"
first=$(sha256sum < "dist/kubectl-acs_${version}_$platform.tar.gz")
$release archive "$platform"
[ "$first" = "$(sha256sum < "dist/kubectl-acs_${version}_$platform.tar.gz")" ] || fail "the archive differs each time"
$release krew "https://github.com/example/acs-identity-operator/releases/download/v$version"
wanted=$(sed -n 's/^    sha256: //p' dist/acs.yaml)
[ "$wanted  -" = "$first" ] || fail "krew's manifest has another hash than the archive"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
tar -xzf "dist/kubectl-acs_${version}_$platform.tar.gz" -C "$unpacked"
[ "$("$unpacked/$(sed -n 's/^    bin: //p' dist/acs.yaml)" --version)" = "kubectl-acs $version" ] || fail "the archive holds another version"

say "the charts and install.yaml"
$release charts $registry
$release manifest $registry
helm=$(tests/support/control-plane/build.sh helm)/helm
for chart in acs-identity-operator acs-emulator; do
  "$helm" template try "dist/$chart-$version.tgz" | grep -q "image: \"$registry/$chart:$version\"" || fail "the packed chart $chart does not use its image"
done
grep -q "image: \"$registry/acs-identity-operator:$version\"" dist/install.yaml || fail "install.yaml does not use the image"

say "checksums"
$release checksums
(cd dist && sha256sum --check --quiet checksums.txt)
column -t dist/checksums.txt
say "done. Not tried: images, pushes, signatures, provenance, and other platforms"
