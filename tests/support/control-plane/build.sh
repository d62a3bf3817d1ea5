#!/usr/bin/env bash
# Builds etcd, kube-apiserver, kube-controller-manager and kubectl (or, as `build.sh node`, kubelet,
# kube-scheduler and kube-proxy; as `build.sh helm`, what the folder helm beside this file lists) from
# Go modules, once, into a cache outside the clone. The last line on stdout is the folder that holds
# them; progress goes to stderr.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
what=${1:-kubernetes}
module=$here/$what
# One version for all of Kubernetes: the node's programs are in the same module, and built apart.
[ "$what" != node ] || module=$here/kubernetes
of_the_node='/(kubelet|kube-scheduler|kube-proxy)$'
say() { echo "control plane: $*" >&2; }
fail() { say "$*"; exit 1; }

need_go() {
  command -v go >/dev/null || fail "Go is missing; install Go $(awk '/^go /{print $2}' "$module/go.mod") or later (https://go.dev/doc/install)"
  (cd "$module" && go list -m >/dev/null) || fail "this Go ($(go env GOVERSION)) can't build $what: install the version that $module/go.mod asks for"
}

# Where a folder of programs is given, it is used; such folders have no kube-controller-manager.
if [ "$what" = kubernetes ] && [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  for program in etcd kube-apiserver kubectl; do
    [ -x "$KUBEBUILDER_ASSETS/$program" ] || fail "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no $program; unset it to have everything built"
  done
  if [ -x "$KUBEBUILDER_ASSETS/kube-controller-manager" ]; then
    echo "$KUBEBUILDER_ASSETS"
    exit 0
  fi
fi
if [ "$what" = helm ] && command -v helm >/dev/null && helm version --short 2>/dev/null | grep -qE '^v(3\.1[4-9]|4\.)'; then
  dirname "$(command -v helm)"
  exit 0
fi

need_go
# Without service discovery, which would take most of the build.
[ "$what" != promtool ] || export GOFLAGS=-tags=remove_all_sd
key=$(cat "$module"/* "${BASH_SOURCE[0]}" <(go env GOVERSION) | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/acs-identity-operator
folder=$cache/$what-$key
only=
if [ "$what" = kubernetes ] && [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  say "KUBEBUILDER_ASSETS has no kube-controller-manager, which garbage collection needs: building that one"
  only=k8s.io/kubernetes/cmd/kube-controller-manager
  folder=$folder-controller-manager
fi
mkdir -p "$cache"
exec 9>"$cache/$what.lock"
flock -n 9 || { say "another build of $what is under way; waiting for it"; flock 9; }

if [ ! -d "$folder" ]; then
  command -v cc >/dev/null || export CGO_ENABLED=0
  version=$(awk '$1 == "k8s.io/kubernetes" || $1 == "helm.sh/helm/v4" {print $2}' "$module/go.mod")
  say "building $what${version:+ }$version from Go modules (once; some minutes on two cores)"
  building=$(mktemp -d "$cache/building-XXXXXX")
  trap 'rm -rf "$building"' EXIT
  flags="-s -w"
  if [ "$what" = kubernetes ] || [ "$what" = node ]; then
    IFS=. read -r major minor _ <<<"${version#v}"
    base=k8s.io/component-base/version
    flags="$flags -X $base.gitVersion=$version -X $base.gitMajor=$major -X $base.gitMinor=$minor"
  fi
  start=$SECONDS
  (
    while sleep 15; do
      say "$((SECONDS - start)) s; done so far: $(ls "$building" | tr '\n' ' ')"
    done
  ) 9>&- &
  ticker=$!
  cd "$module"
  tools=$(go mod edit -json | sed -n '/"Tool"/,/\]/s/.*"Path": "\(.*\)".*/\1/p')
  case $what in
  kubernetes) tools=${only:-$(grep -vE "$of_the_node" <<<"$tools")} ;;
  node) tools=$(grep -E "$of_the_node" <<<"$tools") ;;
  esac
  # One after the other: what is done is seen, and memory stays small.
  for tool in $tools; do
    say "building $tool"
    go build -trimpath -ldflags "$flags" -o "$building/" "$tool" || { kill "$ticker"; fail "building $tool failed; see above"; }
  done
  kill "$ticker"
  [ ! -e "$building/server" ] || mv "$building/server" "$building/etcd"
  if [ -n "$only" ]; then
    ln -s "$KUBEBUILDER_ASSETS"/{etcd,kube-apiserver,kubectl} "$building/"
  fi
  chmod 755 "$building"
  mv "$building" "$folder"
  trap - EXIT
  say "$what is built after $((SECONDS - start)) s and kept in $folder"
fi
echo "$folder"
