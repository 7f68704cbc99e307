#!/usr/bin/env bash
# Serves a policy for evaluation and rejection sampling with SGLang (training serves its own). See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: MODEL=DIR launch/serve_policy.sh [--profile NAME]… [--dry-run] [-- SGLANG ARGUMENTS]

SGLang on port POLICY_PORT (30000) with POLICY_DP (1) copies of MODEL (default: MODEL_DIR), in the foreground; Ctrl-C stops it.
/generate takes token ids, so that neither a chat template nor a tool parser is asked of the server.
TEXT
}
parse_options "$@"
: "${MODEL:=$MODEL_DIR}"
: "${POLICY_PORT:=30000}"
: "${POLICY_DP:=1}"
whole_numbers POLICY_PORT:1:65535 POLICY_DP:1
if [ "$DRY_RUN" = 0 ]; then
  doctor --serve --gpus "$POLICY_DP" --model "$MODEL" --port "$POLICY_PORT"
fi
show_or_run exec python3 -m sglang.launch_server --model-path "$MODEL" --host 127.0.0.1 --port "$POLICY_PORT" --dp-size "$POLICY_DP" \
  --context-length "$CONTEXT" --mem-fraction-static 0.85
