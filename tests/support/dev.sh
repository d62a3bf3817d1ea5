#!/usr/bin/env bash
# Keeps a control plane, an emulator and the operator running until Ctrl-C, and prints what another
# terminal needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source tests/support/stack.sh

start_stack "$@"
cat <<EOF

Everything runs. In another terminal:

  export KUBECONFIG=$KUBECONFIG PATH=$programs:$PWD/target/debug:\$PATH
  kubectl apply -f examples/
  kubectl acs status --watch

The emulator's page:  $emulator_url/_emulator/
The operator's log:   $stack/operator.log
Ctrl-C ends everything.
EOF
wait_for_any
