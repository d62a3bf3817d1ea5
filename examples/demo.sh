#!/usr/bin/env bash
# Demo of the main workflow, from an empty cluster to a renewed token. It checks every step.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/support/stack.sh

# Waits until a command succeeds, at most 60 s.
await() {
  local what=$1 deadline=$((SECONDS + 60))
  shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || { kubectl get acs,secrets >&2; fail "timed out after 60s: $what"; }
    sleep 0.2
  done
  echo "    ok: $what"
}
run() { echo "    \$ $*"; "$@" | sed 's/^/      /'; }
token() { kubectl get secret "$1" -o "jsonpath={.data.$2}" | base64 -d; }
# Whether the service accepts this token of a client.
accepted() {
  curl -sf -X POST "$emulator_url/_emulator/check" -H 'content-type: application/json' \
    --data @- <<<"{\"token\":\"$1\"}" | grep -q '"valid": *true'
}
refused() { ! accepted "$1"; }
has_new_token() { local now; now=$(token "$1" "$2") && [ -n "$now" ] && [ "$now" != "$3" ] && accepted "$now"; }
is_gone_from_acs() { ! curl -sf "$emulator_url/_emulator/identities" | grep -q '"deletedAt": *null'; }

start_stack --minute 1s
say "a minute of token life lasts a second here: an hour's token is renewed after half a minute"

say "committing an identity and two tokens"
run kubectl apply -f examples/
kubectl wait --for=condition=Ready acsidentity/alice acstoken/alice-web acstoken/alice-bot --timeout=60s >/dev/null \
  || fail "the objects are not Ready"
run kubectl get acs

say "the Secrets that pods mount"
# `describe` shows sizes, never values.
run kubectl describe secret alice-web alice-bot
first=$(token alice-web token)
bot=$(token alice-bot ACS_TOKEN)
run kubectl acs inspect alice-web
await "the service takes the token" accepted "$first"

say "deleting a Secret: it comes back"
run kubectl delete secret alice-bot
await "Secret alice-bot holds a new token" has_new_token alice-bot ACS_TOKEN "$bot"
bot=$(token alice-bot ACS_TOKEN)

say "waiting for a renewal: the old token stays good until it ends"
await "Secret alice-web holds a renewed token" has_new_token alice-web token "$first"
await "the former token still works" accepted "$first"
run kubectl get acstoken alice-web

say "taking the scope voip away: old tokens are revoked, the sibling gets a new one"
web=$(token alice-web token)
run kubectl patch acstoken alice-web --type merge -p '{"spec":{"scopes":["chat"]}}'
await "the old token is dead" refused "$web"
await "Secret alice-web holds a new token" has_new_token alice-web token "$web"
await "the sibling's Secret holds a new token" has_new_token alice-bot ACS_TOKEN "$bot"
await "all is Ready again" kubectl acs status
run kubectl acs status

say "deleting the identity: it goes from ACS, its tokens wait for it"
run kubectl delete acsidentity alice
await "the identity is gone from ACS" is_gone_from_acs
await "its Secrets are gone" bash -c '! kubectl get secret alice-web alice-bot --ignore-not-found -o name | grep -q .'
run kubectl get acs

say "that was it: everything is stopped again"
