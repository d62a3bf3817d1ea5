# Sourced by story.sh: runs what examples/connector and examples/use-a-token hold, with the node's images.

# on_the_node FILE...: the manifests with the images that the node has.
on_the_node() {
  local file
  for file in "$@"; do
    echo ---
    sed "s|registry.example/acs-identity-operator:.*|e2e.local/acs-identity-operator:$version|; s|image: busybox:.*|image: e2e.local/busybox:1|" "$file"
  done
}
secret() { kubectl get secret "$1" -o "jsonpath={.data.$2}" | base64 -d; }
# What ACS says to a client that comes with this token.
accepts() { printf '{"token":"%s"}' "$1" | control -X POST "$emulator/_emulator/check" -H 'content-type: application/json' --data @- | grep -q '"valid": *true'; }

# connector_step FILE: runs a Job of examples/connector to its end.
connector_step() {
  local name
  name=$(on_the_node "examples/connector/$1.yaml" | kubectl create -f - -o name)
  kubectl wait "$name" --for=condition=Complete --timeout=60s >/dev/null || fail "the Job $1 did not complete: $(kubectl logs "$name" 2>&1)"
  kubectl logs "$name" >"$logs/connector-$1.log"
  ! grep -q eyJ "$logs/connector-$1.log" || fail "the log of the Job $1 holds a token"
}

connector() {
  local users token account=system:serviceaccount:default:acs-connector
  users=$(living)
  kubectl apply -f examples/connector/rights.yaml >/dev/null
  connector_step create
  [ "$(living)" = $((users + 1)) ] || fail "create made no user"
  connector_step create-with-scopes
  accepts "$(secret dave token)" || fail "create with scopes: ACS refuses the token in the Secret dave"
  connector_step issue
  token=$(secret carol-chat token)
  accepts "$token" || fail "issue: ACS refuses the token in the Secret carol-chat"
  connector_step revoke
  ! accepts "$token" || fail "revoke: the former token still works"
  accepts "$(secret carol-chat token)" || fail "revoke: ACS refuses the new token in the Secret carol-chat"
  connector_step delete
  [ "$(living)" = $((users + 1)) ] || fail "delete left the user in ACS"
  [ -z "$(kubectl get secret carol-chat --ignore-not-found -o name)" ] || fail "delete left the Secret"
  kubectl delete acsidentity/dave acstoken/dave --timeout 60s >/dev/null
  [ "$(kubectl auth can-i delete secrets --as $account)" = no ] || fail "the Jobs' account may delete Secrets"
  # The WorkflowTemplate of this folder is for a cluster with Argo Workflows.
  kubectl delete $(printf -- '-f %s ' examples/connector/{rights,create,create-with-scopes,issue,revoke,delete}.yaml) >/dev/null
}

# Created before the Secret that they mount.
uses_before_the_secret() { on_the_node examples/use-a-token/{job,init-container}.yaml | kubectl apply -f - >/dev/null; }

# The end of the token that a Deployment of examples/use-a-token says it uses.
said_end() { kubectl logs "deployment/$1" --container app --tail=1 | sed -n 's/.*token that ends //p'; }
says_another() { local now; now=$(said_end "$1") && [ -n "$now" ] && [ "$now" != "$2" ]; }
says() { [ "$(said_end "$1")" = "$2" ]; }
uid_of() { kubectl get pods -l "app=$1" -o 'jsonpath={.items[*].metadata.uid}'; }

# What Reloader does when the Secret alice-web has changed.
reload() {
  local name
  for name in $(kubectl get deployments -o 'jsonpath={range .items[?(@.metadata.annotations.secret\.reloader\.stakater\.com/reload=="alice-web")]}{.metadata.name}{"\n"}{end}'); do
    kubectl rollout restart "deployment/$name" >/dev/null
  done
}

counts_outdated() { [ "$(kubectl get acstoken alice-web -o 'jsonpath={.status.consumers.outdated}')" = "$1" ]; }
is_nudged() { [ -n "$(kubectl get pods -l "app=$1" -o 'jsonpath={.items[*].metadata.annotations.acs-identity\.dev/nudged-at}')" ]; }
is_another_pod() { local now; now=$(uid_of "$1") && [ -n "$now" ] && [ "$now" != "$2" ]; }

uses() {
  local name former uid
  condition job/token-job condition=Complete
  condition deployment/token-init condition=Available
  on_the_node examples/use-a-token/{deployment,environment,subpath}.yaml | kubectl apply -f - >/dev/null
  for name in token-file token-environment token-subpath; do condition "deployment/$name" condition=Available; done
  former=$(secret alice-web expiresOn) uid=$(uid_of token-file)
  for name in token-file token-environment token-subpath; do await 20 "$name says which token it uses" says "$name" "$former"; done
  await 90 "the mounted file is renewed" says_another token-file "$former"
  [ "$(uid_of token-file)" = "$uid" ] || fail "the pod that mounts the file was replaced"
  await 20 "the init container's pod has the renewed file" says_another token-init "$former"
  for name in token-environment token-subpath; do
    says "$name" "$former" || fail "$name did not keep its token, against what docs/use-a-token.md says"
  done
  await 30 "the pods with a former token are counted" counts_outdated 2
  reload
  for name in token-environment token-subpath; do
    kubectl rollout status "deployment/$name" --timeout 60s >/dev/null || fail "$name was not replaced"
    await 20 "$name uses the renewed token in a new pod" says_another "$name" "$former"
  done
  kubectl delete deployment token-file token-init token-environment token-subpath >/dev/null
  kubectl delete job token-job >/dev/null
  await 60 "no pod with a former token is counted" counts_outdated 0
}

# The pod of a Deployment that a token names in rolloutRestart.
restarts() {
  local former uid
  on_the_node examples/use-a-token/environment.yaml | kubectl apply -f - >/dev/null
  condition deployment/token-environment condition=Available
  uid=$(uid_of token-environment) former=$(secret alice-web expiresOn)
  kubectl patch acstoken alice-web --type merge --patch \
    '{"spec": {"rolloutRestart": [{"kind": "Deployment", "name": "token-environment", "after": "Renewal"}]}}' >/dev/null
  await 120 "the operator restarts the Deployment after the renewal" is_another_pod token-environment "$uid"
  kubectl rollout status deployment/token-environment --timeout 60s >/dev/null || fail "token-environment was not replaced"
  await 20 "token-environment uses the renewed token" says_another token-environment "$former"
  kubectl patch acstoken alice-web --type merge --patch '{"spec": {"rolloutRestart": null}}' >/dev/null
  kubectl delete deployment token-environment >/dev/null
}
