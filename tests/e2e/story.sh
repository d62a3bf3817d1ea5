#!/usr/bin/env bash
# The inner half of `make e2e`: run.sh starts it as the first process of its namespaces.
set -euo pipefail
source tests/e2e/told.sh
source tests/e2e/node.sh
source tests/e2e/examples.sh

keep_logs() {
  local outcome=$?
  [ $outcome != 0 ] || return 0
  kubectl get pods,acs --all-namespaces >&2 || true
  kubectl get events --all-namespaces --sort-by=.lastTimestamp 2>/dev/null | tail -n 15 >&2 || true
  cp -r "$logs" "$failure_logs" || true
  echo "the logs of the node and its pods are in $failure_logs" >&2
}
trap keep_logs EXIT
trap 'exit 130' INT

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
operator=acs-identity-operator
# Half of a token's life is the margin of its renewal, which has to cover the kubelet's lag: a token for an hour
# lives 90 s here.
minute=1500ms

control() { curl -sf --max-time 10 "$@"; }
install() {
  local chart=$1
  shift
  helm install "$chart" "charts/$chart" --namespace "$chart" --create-namespace --wait --timeout 2m \
    --set "image.repository=e2e.local/$chart" "$@" >/dev/null || fail "helm install $chart did not end well"
}
operator() { kubectl --namespace $operator "$@"; }
checker_log() { kubectl logs deployment/checker --timestamps --since=1h; }
# How many tokens the pod has read.
tokens_read() { checker_log | grep -o '"issuedAt": *"[^"]*"' | uniq | wc -l; }
has_read() { [ "$(tokens_read)" -ge "$1" ]; }
# Waits until the pod has read a token that was not there before.
renewed() { await "${2:-90}" "the pod reads a new token, $1" has_read $(($(tokens_read) + 1)); }
leader() { operator get lease $operator -o 'jsonpath={.spec.holderIdentity}'; }
leads_another() { local now; now=$(leader) && [ -n "$now" ] && [ "$now" != "$1" ]; }
rolled_out() { operator rollout status "deployment/$operator" --timeout 120s >/dev/null || fail "$1: the Deployment did not become ready"; }
condition() { kubectl wait "$1" --for="$2" --timeout="${3:-60s}" >/dev/null || fail "timed out waiting for $1: $2"; }
living() { control "$emulator/_emulator/identities" | python3 -c 'import json, sys; print(sum(it["deletedAt"] is None for it in json.load(sys.stdin)))'; }
has_none_living() { [ "$(living)" = 0 ]; }

say "a node: kubelet, containerd, scheduler and kube-proxy beside a control plane"
node_up
told "node $NODE_NAME is ready; its kubelet looks at a pod every $sync_frequency"

say "both charts, with --wait"
install acs-emulator --set minute=$minute
address=$(kubectl --namespace acs-emulator get service acs-emulator -o 'jsonpath={.spec.clusterIP}')
emulator=http://$address:8765
install $operator --set "allowInsecureEndpoints={$address},tests.namespace=default,podsRereadWithin=20s" \
  --set consumers.count=true,consumers.rolloutRestart=true,consumers.nudge=true
told "emulator and operator run as pods"

say "helm test"
key_of() { sed -n "s/^$1: .*accesskey=//p" "$node/emulator.log" | head -n 1; }
kubectl --namespace acs-emulator logs deployment/acs-emulator >"$node/emulator.log"
kubectl create secret generic acs-keys --from-literal="primary=$(key_of connection-string)" \
  --from-literal="secondary=$(key_of secondary-connection-string)" >/dev/null
sed "s|EMULATOR_URL|$emulator|" tests/e2e/connection.yaml | kubectl apply -f - >/dev/null
helm test $operator --namespace $operator --logs --timeout 2m >"$node/helm-test.log" 2>&1 || { cat "$node/helm-test.log" >&2; fail "helm test failed"; }
told "an identity and a token were made and deleted again"

say "two tokens, and a pod that reads one of them every second"
uses_before_the_secret
kubectl apply -f examples/alice.yaml >/dev/null
sed "s|EMULATOR_URL|$emulator|" tests/e2e/checker.yaml | kubectl apply -f - >/dev/null
condition acstoken/alice-web condition=Ready
condition deployment/checker condition=Available
await 20 "the pod has read a token" has_read 1
told "the pod runs"

say "the Jobs of examples/connector: create, create with scopes, issue, revoke, delete"
connector
told "each did what it says, and no token is in a log"

say "the pods of examples/use-a-token; a stand-in replaces pods as Reloader would, by its annotation"
uses
told "the file was renewed in its pod, variable and subPath only in new pods; both were counted as outdated until then"

say "a token that restarts its Deployment after each renewal"
restarts
told "the operator replaced the pod after the renewal, and the new one has the new token"

say "renewals: a minute of token life lasts $minute, so a token lives 90 s"
await 180 "the pod has read three tokens" has_read 3
told "two renewals"

say "the leader's process is killed: the other pod takes over when the Lease has run out"
former=$(leader)
container=$(operator get pod "${former%%_*}" -o 'jsonpath={.status.containerStatuses[0].containerID}')
ctr --address "$node/containerd.sock" --namespace k8s.io task kill --signal SIGKILL "${container#*//}"
await 60 "another pod leads" leads_another "$former"
told "another pod leads"
rolled_out "after the kill"
renewed "after the kill"
told "the pod has read a new token"

say "the node is drained of the operator, and takes pods again once the first one has gone"
kubectl drain $NODE_NAME --pod-selector "app.kubernetes.io/name=$operator" --ignore-daemonsets --timeout 120s >"$logs/drain.log" 2>&1 &
drain=$!
has_one_left() { [ "$(operator get pods --field-selector=status.phase=Running --no-headers | grep -vc Terminating)" -lt 2 ]; }
await 60 "a pod of the operator is evicted" has_one_left
kubectl uncordon $NODE_NAME >/dev/null
wait $drain || { cat "$logs/drain.log" >&2; fail "the drain did not end: the disruption budget should let one pod go after the other"; }
rolled_out "after the drain"
told "both pods were evicted, one after the other"
renewed "after the drain"
told "the pod has read a new token"

say "helm upgrade and helm rollback"
helm upgrade $operator charts/$operator --namespace $operator --reset-then-reuse-values --set logFormat=text,logLevel=debug \
  --wait --timeout 2m >/dev/null || fail "helm upgrade did not end well"
told "upgraded"
helm rollback $operator --namespace $operator --wait --timeout 2m >/dev/null || fail "helm rollback did not end well"
told "rolled back"
renewed "after the rollback"
told "the pod has read a new token"

say "a key is rolled, as docs/rotate-a-key.md says"
kubectl patch acsconnection default --type merge --patch \
  '{"spec": {"auth": {"accessKey": {"secretRef": {"key": "secondary"}, "secondarySecretRef": {"key": "primary"}}}}}' >/dev/null
condition acsconnection/default condition=SafeToRegenerate=False
condition acsconnection/default 'jsonpath={.status.conditions[?(@.type=="SafeToRegenerate")].reason}=SecretsRenewed' 90s
key=$(control -X POST "$emulator/_emulator/keys/primary/regenerate" | sed 's/.*accesskey=\([^"]*\)".*/\1/')
kubectl patch secret acs-keys --patch "{\"stringData\": {\"primary\": \"$key\"}}" >/dev/null
condition acsconnection/default condition=Ready
told "the former key is regenerated"

say "a scope is taken away: old tokens are revoked"
before=$(tokens_read)
kubectl patch acstoken alice-web --type merge --patch '{"spec": {"scopes": ["chat"]}}' >/dev/null
await 60 "the pod reads the narrowed token" has_read $((before + 1))
condition acstoken/alice-web condition=Ready
await 20 "the pod is annotated, so that its kubelet looks at once" is_nudged checker
renewed "after the narrowed scope"
told "the pod has read the narrowed token, and the next one"

say "what the pod has read, all the time"
judge() { checker_log >"$logs/reads.log" && tests/e2e/reads.py "$node/identities.json" <"$logs/reads.log"; }
control "$emulator/_emulator/identities" >"$node/identities.json"
judge || fail "the pod read a dead token when it should not have; see above"
told "no dead read but in the gap"

say "the proof can fail: without an operator, a regenerated key shows as dead reads"
operator scale "deployment/$operator" --replicas 0 >/dev/null
operator wait pods -l "app.kubernetes.io/name=$operator" --for=delete --timeout 60s >/dev/null
control -X POST "$emulator/_emulator/keys/secondary/regenerate" >/dev/null
reads_dead() { checker_log | tail -n 1 | grep -q keyRegenerated; }
await 60 "the pod reads a dead token" reads_dead
if judge >"$node/judged" 2>&1; then fail "the reads were found good, although the token was dead"; fi
grep '^reads:.*keyRegenerated' "$node/judged" | head -n 1 | sed 's/^/    /' || fail "the reads were found bad for another reason: $(cat "$node/judged")"
operator scale "deployment/$operator" --replicas 2 >/dev/null
reads_good() { checker_log | tail -n 1 | grep -q '"valid": *true'; }
await 90 "the operator is back and heals it with the other key" reads_good
told "seen, and healed"

say "everything is deleted"
kubectl delete deployment checker >/dev/null
kubectl delete -f examples/alice.yaml --timeout 60s >/dev/null
kubectl delete acsconnection default --timeout 60s >/dev/null
has_none_living || fail "the emulator still has $(living) identities"
helm uninstall $operator --namespace $operator --wait --timeout 2m >/dev/null
helm uninstall acs-emulator --namespace acs-emulator --wait --timeout 2m >/dev/null
kubectl delete --kustomize crds --timeout 60s >/dev/null
told "no identity is left, and both charts are uninstalled"
