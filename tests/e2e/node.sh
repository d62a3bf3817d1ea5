# Sourced inside the namespaces that run.sh makes: a control plane and one real node, all of whose files
# are in memory, in $node, and go with the mount namespace. Sets KUBECONFIG and PATH.

node=/run/e2e
logs=$node/logs
NODE_NAME=node1
NODE_ADDRESS=10.89.0.1
export NODE_NAME NODE_ADDRESS
# How often the kubelet looks at a pod again without a reason. Kubernetes' own default is a minute, with
# which a changed Secret takes up to 90 s to reach a pod.
sync_frequency=2s

# Starts a program of the node; its output goes to $logs/NAME.log.
begin() {
  local name=$1
  shift
  "$@" >"$logs/$name.log" 2>&1 </dev/null &
  children[$!]=$name
}
declare -A children

# await SECONDS WHAT COMMAND...: waits until the command succeeds.
await() {
  local seconds=$1 what=$2 deadline=$((SECONDS + $1)) child
  shift 2
  until "$@" >/dev/null 2>&1; do
    for child in "${!children[@]}"; do
      kill -0 "$child" 2>/dev/null || fail "${children[$child]} ended by itself, while waiting until $what"
    done
    [ $SECONDS -lt "$deadline" ] || fail "timed out after $seconds s waiting until $what"
    sleep 0.2
  done
}

own_mounts() {
  # Mounts of containers have to reach the kubelet, but nothing outside.
  mount --make-rshared /
  local folder
  for folder in /run /var/lib /var/log; do mount -t tmpfs -o mode=755 e2e "$folder"; done
  mkdir -p "$logs" /run/netns
}

own_network() {
  ip link set lo up
  ip link add node0 type veth peer name nowhere
  ip address add "$NODE_ADDRESS/24" dev node0
  ip link set node0 up
  ip link set nowhere up
  # Leads nowhere; kube-proxy turns the addresses of Services into others before a packet leaves.
  ip route add default dev node0
  echo 1 >/proc/sys/net/ipv4/ip_forward
}

# The folder of the node in every hierarchy of control groups (version 1 has several).
own_cgroups() {
  local root
  for root in $(cgroup_roots); do
    mkdir -p "$root/$cgroup"
    if [ -e "$root/cpuset.mems" ] && [ -e "$root/cpuset.cpus" ]; then
      cat "$root/cpuset.cpus" >"$root/$cgroup/cpuset.cpus"
      cat "$root/cpuset.mems" >"$root/$cgroup/cpuset.mems"
    fi
  done
}

start_containerd() {
  mkdir -p "$node"/{cni,containerd}
  cat >"$node/cni/10-bridge.conflist" <<'JSON'
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.90.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
  cat >"$node/containerd.toml" <<TOML
version = 2
root = "$node/containerd/root"
state = "$node/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "$node/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$node/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "e2e.local/busybox:1"
  # Where root may not lower it, no pod would start.
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$cni_plugins"
  conf_dir = "$node/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
TOML
  begin containerd containerd --config "$node/containerd.toml"
  await 30 "containerd answers" ctr --address "$node/containerd.sock" version
  local archive
  for archive in "$images"/*.tar; do
    ctr --address "$node/containerd.sock" --namespace k8s.io images import "$archive" >/dev/null || fail "containerd did not take $archive"
  done
}

# kubeconfig TOKEN: the administrator's, with another token.
kubeconfig() { sed "s/token: admin/token: $1/" "$KUBECONFIG"; }

start_kubernetes() {
  begin control-plane tests/support/control-plane/run.sh "$node/control-plane"
  await 60 "the control plane is ready" grep -q '^ready$' "$logs/control-plane.log"
  export KUBECONFIG=$node/control-plane/kubeconfig
  kubeconfig node >"$node/kubelet.kubeconfig"
  kubeconfig proxy >"$node/proxy.kubeconfig"
  begin kube-scheduler "$node_programs/kube-scheduler" --kubeconfig "$KUBECONFIG" --leader-elect=false --bind-address 127.0.0.1
  cat >"$node/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $node/proxy.kubeconfig}
hostnameOverride: $NODE_NAME
mode: iptables
# The limits of connection tracking belong to the whole machine.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
# Two pods on one bridge would otherwise answer each other past the Service.
iptables: {masqueradeAll: true}
YAML
  begin kube-proxy "$node_programs/kube-proxy" --config "$node/proxy.yaml"
  cat >"$node/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_ADDRESS
authentication:
  x509: {clientCAFile: $node/control-plane/client-ca.crt}
  webhook: {enabled: true}
  anonymous: {enabled: false}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://$node/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
failCgroupV1: false
enforceNodeAllocatable: [pods]
evictionHard: {memory.available: 50Mi}
failSwapOn: false
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
oomScoreAdj: 0
podLogsDir: $logs/pods
protectKernelDefaults: false
registerNode: true
resolvConf: ""
syncFrequency: $sync_frequency
volumePluginDir: $node/volume-plugins
YAML
  begin kubelet "$node_programs/kubelet" --config "$node/kubelet.yaml" --kubeconfig "$node/kubelet.kubeconfig" \
    --hostname-override "$NODE_NAME" --node-ip "$NODE_ADDRESS" --root-dir "$node/kubelet" --cert-dir "$node/kubelet-certificates"
  await 60 "the node is registered" kubectl get node "$NODE_NAME"
  await 60 "the node is ready" kubectl wait --for=condition=Ready "node/$NODE_NAME" --timeout=10s
  await 60 "namespace default has its ServiceAccount" kubectl get serviceaccount default
}

node_up() {
  own_mounts
  own_network
  own_cgroups
  start_containerd
  start_kubernetes
}
