#!/usr/bin/env bash
# Fetches what training needs: models, tau2's data, the task index; optionally a Megatron checkpoint. See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: launch/prepare.sh [--profile NAME]… [--dry-run]

Downloads MODEL_ID (default Qwen/Qwen3-4B-Instruct-2507) to MODEL_DIR and USER_MODEL_ID (the same) to USER_MODEL_DIR where they are absent
(HF_TOKEN is read from the environment), verifies tau2's data, writes the task index to DATA_DIR. slime v0.3.1 loads Hugging Face
directories itself; CONVERT=1 makes MODEL_DIR_torch_dist with slime's converter all the same (one GPU).
What is there is kept: the same command can be run again.
TEXT
}
parse_options "$@"
: "${MODEL_ID:=Qwen/Qwen3-4B-Instruct-2507}"
: "${USER_MODEL_ID:=$MODEL_ID}"
: "${CONVERT:=0}"
whole_numbers CONVERT:0:1
fetch() {
  if [ "$DRY_RUN" = 0 ] && compgen -G "$2/*.safetensors" >/dev/null; then say "$2 is there"; return; fi
  if [ "$DRY_RUN" = 0 ]; then need_command hf "pip install 'huggingface_hub[cli]'"; doctor --output "$2" --disk 10; fi
  show_or_run hf download "$1" --local-dir "$2"
}
fetch "$MODEL_ID" "$MODEL_DIR"
if [ "$USER_MODEL_DIR" != "$MODEL_DIR" ]; then fetch "$USER_MODEL_ID" "$USER_MODEL_DIR"; fi
if [ -n "${TAU2_DATA_DIR:-}" ]; then say "tau2's data: $TAU2_DATA_DIR"; else show_or_run slime-tau2 prepare-data; fi
show_or_run slime-tau2 tasks --domain "$(joined_domains)" --split train --output "$DATA_DIR/tasks.jsonl"
for domain in "${DOMAINS[@]}"; do
  show_or_run slime-tau2 tasks --domain "$domain" --split val --output "$DATA_DIR/val_$domain.jsonl"
done
if [ "$CONVERT" = 1 ]; then
  model_arguments
  if [ "$DRY_RUN" = 0 ]; then doctor --gpus 1 --model "$MODEL_DIR" --rotary-base "$(rotary_base)"; fi
  show_or_run env "PYTHONPATH=$MEGATRON_DIR:$SLIME_DIR" python3 "$SLIME_DIR/tools/convert_hf_to_torch_dist.py" "${MODEL_ARGS[@]}" \
    --hf-checkpoint "$MODEL_DIR" --save "${MODEL_DIR}_torch_dist"
fi
