#!/usr/bin/env bash
# Serves the model that plays the user, with SGLang on port 30001. See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: launch/serve_user_sim.sh [--profile NAME]… [--dry-run] [-- SGLANG ARGUMENTS]

SGLang's OpenAI endpoint for USER_MODEL_DIR on USER_PORT (30001), in the foreground; Ctrl-C stops it. The profile says which GPUs
and how much of them. Profiles with GPUs for the user (4gpu, 8gpu, 8gpu-async, 2nodes) need it for evaluation and rejection sampling
only: in training slime itself serves the simulator as a second, frozen model.
USER_HOST (127.0.0.1) is the address it listens on: 0.0.0.0, or a private one of this node, where the job runs on another node.
The server asks nobody for a key: whoever reaches that address can use it. USER_GPUS_PER_ENGINE (--set) GPUs hold one of USER_DP copies.
TEXT
}
parse_options "$@"
: "${USER_PORT:=30001}"
: "${USER_DP:=1}"
: "${USER_HOST:=127.0.0.1}"
whole_numbers USER_PORT:1:65535 USER_DP:1
if [ "$DRY_RUN" = 0 ]; then
  doctor --serve --gpus "$((USER_DP * USER_GPUS_PER_ENGINE))" --model "$USER_MODEL_DIR" --port "$USER_PORT"
fi
if [ -n "$USER_DEVICES" ]; then export CUDA_VISIBLE_DEVICES="$USER_DEVICES"; say "on GPU $USER_DEVICES"; fi
case "$USER_HOST" in 127.*|localhost|::1) ;; *) say "warning: $USER_HOST:$USER_PORT asks for no key; let only the job's nodes reach it" ;; esac
# the served name is the path: what grpo.sh, rft.sh and evaluate.sh ask for
show_or_run exec python3 -m sglang.launch_server --model-path "$USER_MODEL_DIR" --served-model-name "$USER_MODEL_DIR" \
  --host "$USER_HOST" --port "$USER_PORT" --dp-size "$USER_DP" --tp-size "$USER_GPUS_PER_ENGINE" --context-length "$CONTEXT" --mem-fraction-static "$USER_MEM_FRACTION" \
  --tool-call-parser qwen25
