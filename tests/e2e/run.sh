#!/usr/bin/env bash
# `make e2e`: the operator as pods of a real node (kubelet, containerd, scheduler) beside a real control
# plane, installed by its chart. The node lives in its own namespaces of network, mounts and processes, so
# that nothing of it reaches this machine or outlives this script.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/e2e/told.sh

# What this machine lacks fails the test, or, with E2E=if-possible, skips it.
lacks() {
  [ "${E2E:-}" = if-possible ] || fail "$*"
  say "skipped: $*"
  exit 0
}

missing=()
# need PROGRAM PACKAGE: what is missing is installed as root on Debian.
need() { command -v "$1" >/dev/null || missing+=("$2"); }

prerequisites() {
  [ "$(uname -s)" = Linux ] || lacks "this needs Linux: a kubelet and containerd run on nothing else"
  [ "$(id -u)" = 0 ] || lacks "this needs root, for namespaces, mounts and control groups: sudo make e2e"
  need containerd containerd
  need runc runc
  need iptables iptables
  need ip iproute2
  need busybox busybox-static
  need mount mount
  need setpriv util-linux
  need unshare util-linux
  need readelf binutils
  local folder
  for folder in /usr/lib/cni /opt/cni/bin ''; do [ -x "$folder/bridge" ] && [ -x "$folder/host-local" ] && break; done
  cni_plugins=$folder
  [ -n "$cni_plugins" ] || missing+=(containernetworking-plugins)
  if [ ${#missing[@]} = 0 ]; then
    unshare --net --mount --pid --fork true || lacks "this needs the right to make namespaces: a machine, or a privileged container"
    unshare --net --mount --fork sh -c 'mount --make-rshared / && mount -t tmpfs e2e /run && ip link add node0 type veth peer name nowhere && iptables -t nat -S >/dev/null' ||
      lacks "this needs the right to mount, and a kernel with veth and iptables"
    [ -n "$(cgroup_roots)" ] || lacks "no control groups are mounted, which a kubelet needs (/sys/fs/cgroup)"
    local root
    for root in $(cgroup_roots); do
      mkdir "$root/$cgroup" && rmdir "$root/$cgroup" || lacks "the control groups in $root cannot be changed"
    done
    return 0
  fi
  [ -z "${installed:-}" ] && command -v apt-get >/dev/null || lacks "missing, which a node needs: ${missing[*]} (names of Debian's packages); install them"
  say "installing ${missing[*]} (once)"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } ||
    lacks "apt-get could not install ${missing[*]}"
  installed=yes missing=()
  prerequisites
}

# What the kubelet sets for the whole machine.
tunables=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)
tunable() { echo "/proc/sys/${1//./\/}"; }
save_tunables() {
  local name
  for name in "${tunables[@]}"; do saved[$name]=$(cat "$(tunable "$name")"); done
}
restore_tunables() {
  local name
  for name in "${!saved[@]}"; do
    [ "$(cat "$(tunable "$name")")" = "${saved[$name]}" ] || echo "${saved[$name]}" >"$(tunable "$name")"
  done
}
declare -A saved

cleanup() {
  local outcome=$? root deadline=$((SECONDS + 20))
  trap - EXIT
  trap '' INT TERM
  # Its child is the first process of the namespace: all others end with it.
  if [ -n "${inside:-}" ]; then
    kill -KILL "$inside" 2>/dev/null || true
    wait "$inside" 2>/dev/null || true
  fi
  for root in $(cgroup_roots); do
    while [ -d "$root/$cgroup" ]; do
      find "$root/$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ $SECONDS -lt $deadline ] || { echo "left behind: $root/$cgroup" >&2; outcome=1; break; }
      [ ! -d "$root/$cgroup" ] || sleep 0.2
    done
  done
  restore_tunables
  exit $outcome
}

started=$SECONDS
cgroup=acs-e2e-$$
prerequisites
say "building what is missing of the control plane, the node and helm"
node_programs=$(tests/support/control-plane/build.sh node)
programs=$(tests/support/control-plane/build.sh):$(tests/support/control-plane/build.sh helm)
images=$PWD/target/e2e/images
tests/e2e/images.sh "$images"
told "programs and images are there"
failure_logs=$PWD/target/e2e/logs
rm -rf "$failure_logs"
export node_programs images cgroup cni_plugins failure_logs PATH=$programs:$PATH

save_tunables
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# All of it dies with this script, even if that is killed.
setpriv --pdeathsig KILL unshare --net --mount --pid --fork --kill-child --mount-proc tests/e2e/story.sh &
inside=$! outcome=0
wait "$inside" || outcome=$?
inside=
[ $outcome = 0 ] || exit $outcome
say "that was it, after $((SECONDS - started)) s: nothing of it is left"
