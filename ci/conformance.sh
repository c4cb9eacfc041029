#!/usr/bin/env bash
# The node tests of ONNX: fails on any wrong answer or panic, and on fewer passes than are recorded. The newer ones run
# where scripts/make_node_tests.sh has made them; the run says so where it has not.
#
#     ci/conformance.sh            on the host, then through the device forms
#     ci/conformance.sh --device   through the device forms alone
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1-} in
'') cargo run --release --locked -p graphpool-candle --example onnx_conformance -- --check ;;
--device) ;;
*)
    echo "usage: ci/conformance.sh [--device]" >&2
    exit 2
    ;;
esac
# The same cases and the real models that are present, through the device forms of the operators on candle's CPU: on
# fewer passes without a step on the host than are recorded, and on a model with more than a tenth of its steps there,
# it fails too. Profile and features are the tests', for which the package is built already.
device=(cargo run --locked -p graphpool-candle --features candle,grammar,chat-template --example)
"${device[@]}" onnx_conformance -- --device --check
"${device[@]}" real_models -- --device
