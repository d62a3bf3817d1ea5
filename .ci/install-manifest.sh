#!/usr/bin/env bash
# Prints the objects that the chart installs by default, in namespace acs-identity-operator, with IMAGE.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=${1:?usage: install-manifest.sh REPOSITORY:TAG}
# A colon before a slash belongs to the registry's port.
[[ $image =~ ^(.+):([^/:]+)$ ]] || { echo "install-manifest: $image has no tag; write REPOSITORY:TAG" >&2; exit 1; }
helm=$(tests/support/control-plane/build.sh helm)/helm
cat <<YAML
apiVersion: v1
kind: Namespace
metadata:
  name: acs-identity-operator
  labels: {pod-security.kubernetes.io/enforce: restricted}
YAML
"$helm" template acs-identity-operator charts/acs-identity-operator --skip-tests --namespace acs-identity-operator \
  --set "image.repository=${BASH_REMATCH[1]}" --set-string "image.tag=${BASH_REMATCH[2]}"
