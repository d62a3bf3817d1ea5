#!/usr/bin/env bash
# Runs etcd, kube-apiserver and kube-controller-manager in the foreground, on free ports of the
# loopback, with their data in DIR. Writes DIR/kubeconfig (cluster-admin), prints `ready`, and ends,
# with all of them, on INT or TERM, when one of them dies, or, with --until-stdin-closes, at the end
# of stdin: that is how a test that is killed takes its control plane along, and DIR with it.
#
# With RESTART_KILLED=1 one that ends is started again, as by a kubelet.
#
# With NODE_ADDRESS, an address of this machine other than loopback, the API server listens there and
# knows the kubelet of the node NODE_NAME: its token is `node`, and kube-proxy's is `proxy`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { echo "control plane: $*" >&2; }
[ $# -ge 1 ] || { say "usage: run.sh DIR [--until-stdin-closes]"; exit 2; }
dir=$1 watch_stdin=${2:-}
address=${NODE_ADDRESS:-127.0.0.1}
for tool in setpriv openssl curl python3; do
  command -v "$tool" >/dev/null || { say "$tool is missing; install it (Debian: util-linux, openssl, curl, python3)"; exit 1; }
done
bin=$("$here/build.sh")
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

children=()
stop() {
  trap - EXIT INT TERM
  [ ${#children[@]} -eq 0 ] || kill -KILL "${children[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  [ "$watch_stdin" != --until-stdin-closes ] || rm -rf "$dir"
}
trap stop EXIT
trap 'exit 0' INT TERM

# Dies with us, even if we are killed.
start() {
  local name=$1 again=()
  shift
  [ -z "${RESTART_KILLED:-}" ] || again=(bash -c 'while :; do setpriv --pdeathsig KILL "$@"; sleep 1; done' -)
  setpriv --pdeathsig KILL "${again[@]}" "$bin/$name" "$@" >"$dir/$name.log" 2>&1 </dev/null &
  children+=($!)
}

free_ports() {
  python3 - "$1" <<'PY'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in sockets])
PY
}

# Waits until the URL answers; fails when a child has died.
await() {
  local url=$1 child
  until curl -sfk --max-time 5 -H "Authorization: Bearer admin" "$url" >/dev/null 2>&1; do
    for child in "${children[@]}"; do kill -0 "$child" 2>/dev/null || return 1; done
    sleep 0.1
  done
}

# For the API server's calls to the kubelet, which trusts client-ca.crt.
client_certificate() {
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=client-ca -keyout "$dir/client-ca.key" -out "$dir/client-ca.crt" 2>/dev/null
  openssl req -newkey rsa:2048 -nodes -subj /O=system:masters/CN=kube-apiserver -keyout "$dir/client.key" -out "$dir/client.csr" 2>/dev/null
  openssl x509 -req -in "$dir/client.csr" -CA "$dir/client-ca.crt" -CAkey "$dir/client-ca.key" -CAcreateserial -days 2 -out "$dir/client.crt" 2>/dev/null
}

up() {
  read -r etcd_port peer_port api_port manager_port <<<"$(free_ports 4)"
  rm -rf "$dir/etcd" "$dir/certs" "$dir/audit.log"
  mkdir -p "$dir/certs"
  [ -e "$dir/service-account.key" ] || openssl genrsa -out "$dir/service-account.key" 2048 2>/dev/null
  echo "admin,admin,admin,system:masters" >"$dir/tokens.csv"
  local for_node=()
  if [ -n "${NODE_ADDRESS:-}" ]; then
    echo "node,system:node:$NODE_NAME,node,system:nodes" >>"$dir/tokens.csv"
    echo "proxy,system:kube-proxy,proxy" >>"$dir/tokens.csv"
    client_certificate
    for_node=(--enable-admission-plugins NodeRestriction --kubelet-preferred-address-types InternalIP
      --advertise-address "$address" --kubelet-client-certificate "$dir/client.crt" --kubelet-client-key "$dir/client.key")
  fi
  start etcd --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls "http://127.0.0.1:$peer_port"
  await "http://127.0.0.1:$etcd_port/health" || return 1
  # Tests compare what ServiceAccounts ask for with the rights that they have.
  cat >"$dir/audit.yaml" <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None}
YAML
  start kube-apiserver --etcd-servers "http://127.0.0.1:$etcd_port" \
    --bind-address "$address" --secure-port "$api_port" --cert-dir "$dir/certs" "${for_node[@]}" \
    --service-cluster-ip-range 10.0.0.0/24 --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$dir/service-account.key" --service-account-signing-key-file "$dir/service-account.key" \
    --token-auth-file "$dir/tokens.csv" --authorization-mode Node,RBAC --allow-privileged=true --profiling=false \
    --audit-policy-file "$dir/audit.yaml" --audit-log-path "$dir/audit.log"
  local server=https://$address:$api_port
  await "$server/readyz" || return 1
  cat >"$dir/kubeconfig.new" <<YAML
apiVersion: v1
kind: Config
current-context: admin
clusters: [{name: local, cluster: {server: "$server", certificate-authority-data: $(base64 -w0 "$dir/certs/apiserver.crt")}}]
users: [{name: admin, user: {token: admin}}]
contexts: [{name: admin, context: {cluster: local, user: admin}}]
YAML
  start kube-controller-manager --kubeconfig "$dir/kubeconfig.new" --bind-address 127.0.0.1 --secure-port "$manager_port" \
    --service-account-private-key-file "$dir/service-account.key" --root-ca-file "$dir/certs/apiserver.crt" \
    --use-service-account-credentials=true --leader-elect=false --profiling=false
  await "https://127.0.0.1:$manager_port/healthz" || return 1
  await "$server/api/v1/namespaces/default" || return 1
  mv "$dir/kubeconfig.new" "$dir/kubeconfig"
}

# A port that was free may be taken a moment later; then all begins again on others.
for try in 1 2 3; do
  if up; then break; fi
  say "did not start ($try of 3):"
  tail -n 3 "$dir"/*.log >&2
  kill -KILL "${children[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  children=()
  [ "$try" -lt 3 ] || exit 1
done
echo ready

if [ "$watch_stdin" = --until-stdin-closes ]; then
  # A background job's stdin is /dev/null unless it is handed over by another number.
  exec 3<&0
  cat <&3 >/dev/null &
  stdin_watch=$!
  children+=("$stdin_watch")
fi
wait -n || true
[ -z "${stdin_watch:-}" ] || kill -0 "$stdin_watch" 2>/dev/null || exit 0
for log in "$dir"/*.log; do say "$log ends with:"; tail -n 3 "$log" >&2; done
exit 1
