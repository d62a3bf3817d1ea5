#!/usr/bin/env bash
# The steps of a release. The release workflow runs them, and `make release-dry-run` those that need no network.
# Everything is written into the folder dist.
#
#   release.sh program FEATURE PROGRAM PLATFORM   builds a program for this machine: dist/PLATFORM/PROGRAM
#   release.sh sbom PROGRAM PLATFORM              reads its dependencies back from the binary: dist/PROGRAM_PLATFORM.cdx.json
#   release.sh archive PLATFORM                   packs the plugin: dist/kubectl-acs_VERSION_PLATFORM.tar.gz
#   release.sh krew BASE_URL                      writes dist/acs.yaml from the archives, which BASE_URL will serve
#   release.sh charts REGISTRY                    packs the charts, which use the images of REGISTRY by default
#   release.sh manifest REGISTRY                  writes dist/install.yaml
#   release.sh checksums                          writes dist/checksums.txt
#
# PLATFORM is such as linux_amd64.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
tools=${XDG_CACHE_HOME:-$HOME/.cache}/acs-identity-operator/release-tools
export PATH=$tools/bin:$PATH CARGO_INSTALL_ROOT=$tools
mkdir -p dist

# The bytes of a tar file are to depend on its contents alone.
pack() {
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -C "$2" -cf - "${@:3}" | gzip -n9 > "$1"
}

case ${1:-} in
program)
  .ci/image.sh tools
  .ci/image.sh program "$2" "$3" "dist/$4"
  ;;
sbom)
  command -v auditable2cdx > /dev/null || cargo install --locked --version 0.1.0 auditable2cdx
  auditable2cdx "dist/$3/$2" > "dist/$2_$3.cdx.json"
  ;;
archive)
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  cp LICENSE "dist/$2/kubectl-acs" "$folder"
  pack "dist/kubectl-acs_${version}_$2.tar.gz" "$folder" LICENSE kubectl-acs
  ;;
krew)
  {
    cat <<YAML
apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata: {name: acs}
spec:
  version: v$version
  homepage: ${2%/releases/*}
  shortDescription: Manage Azure Communication Services identities and tokens
  description: |
    Shows how identities and tokens of acs-identity-operator stand and why, and
    creates, issues, renews, revokes and deletes them, as the commands of
    az communication user-identity do.
  platforms:
YAML
    for archive in dist/kubectl-acs_"$version"_*.tar.gz; do
      platform=${archive##*"${version}_"} platform=${platform%.tar.gz}
      cat <<YAML
  - selector: {matchLabels: {os: ${platform%_*}, arch: ${platform#*_}}}
    uri: $2/${archive#dist/}
    sha256: $(sha256sum "$archive" | cut -d' ' -f1)
    bin: kubectl-acs
YAML
    done
  } > dist/acs.yaml
  ;;
charts)
  helm=$(tests/support/control-plane/build.sh helm)/helm
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  for chart in acs-identity-operator acs-emulator; do
    cp -R "charts/$chart" "$folder"
    sed -i "s|^  repository: \"\"$|  repository: $2/$chart|" "$folder/$chart/values.yaml"
    grep -q "^  repository: $2/$chart$" "$folder/$chart/values.yaml"
    "$helm" package "$folder/$chart" --destination dist
  done
  ;;
manifest)
  .ci/install-manifest.sh "$2/acs-identity-operator:$version" > dist/install.yaml
  ;;
checksums)
  (cd dist && find . -maxdepth 1 -type f ! -name checksums.txt -printf '%f\n' | sort | xargs sha256sum > checksums.txt)
  ;;
*)
  sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 1
  ;;
esac
