# Sourced by scripts that need a control plane, an emulator and the operator; everything ends with
# the script. Sets KUBECONFIG, programs (the folder with kubectl), stack (a folder), emulator_url.

bold='' plain=''
[ ! -t 1 ] || bold=$'\033[1m' plain=$'\033[0m'
say() { echo "$bold==> $*$plain"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

children=()
stop_stack() {
  trap - EXIT INT TERM
  [ ${#children[@]} -eq 0 ] || kill -TERM "${children[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$stack"
}

# Starts a program that dies with us.
start() {
  local log=$1
  shift
  setpriv --pdeathsig TERM "$@" >"$stack/$log" 2>&1 </dev/null &
  children+=($!)
}

# Waits until the file has a line that matches.
await_line() {
  local file=$1 pattern=$2 child=${children[-1]}
  until grep -qE "$pattern" "$file" 2>/dev/null; do
    kill -0 "$child" 2>/dev/null || { tail -n 20 "$file" >&2; fail "see the lines above"; }
    sleep 0.1
  done
}

# start_stack [EMULATOR-ARGUMENT...]
start_stack() {
  command -v setpriv >/dev/null || fail "setpriv is missing; install util-linux"
  stack=$(mktemp -d)
  trap stop_stack EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  programs=$(tests/support/control-plane/build.sh)
  if [ -n "${KUBECONFIG:-}" ]; then
    say "using the cluster of KUBECONFIG=$KUBECONFIG"
  else
    say "starting etcd, kube-apiserver and kube-controller-manager"
    start control-plane.log tests/support/control-plane/run.sh "$stack/control-plane"
    await_line "$stack/control-plane.log" '^ready$'
    export KUBECONFIG=$stack/control-plane/kubeconfig
  fi
  # kubectl finds its plugin there.
  export PATH=$programs:$PWD/target/debug:$PATH
  say "starting the emulator"
  start emulator.log target/debug/acs-emulator --listen 127.0.0.1:0 --tls-listen 127.0.0.1:0 "$@"
  await_line "$stack/emulator.log" '^connection-string: '
  connection_string=$(sed -n 's/^connection-string: //p' "$stack/emulator.log" | head -n 1)
  emulator_url=$(sed 's/^endpoint=\([^;]*[^;/]\)\/*;.*/\1/' <<<"$connection_string")
  say "installing the CRDs and a Secret with the emulator's connection string"
  kubectl apply --server-side --kustomize crds >/dev/null
  kubectl wait --for=condition=Established crd/acs{connections,identities,tokens}.acs-identity.dev >/dev/null
  kubectl create secret generic acs --from-literal="connectionString=$connection_string" \
    --dry-run=client -o yaml | kubectl apply -f - >/dev/null
  say "starting the operator"
  start operator.log target/debug/acs-identity-operator run --address 127.0.0.1:0 --log-format text \
    --allow-insecure-endpoint 127.0.0.1 --no-leader-elect
  await_line "$stack/operator.log" 'reconciling begins'
}

# Ends when one of the programs does.
wait_for_any() {
  wait -n || true
  fail "a program ended by itself; its log is one of: $(tail -n 3 "$stack"/*.log)"
}
