#!/usr/bin/env bash
# Supervised fine-tuning with slime on traces in its messages + tools format. See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: SFT_DATA=rows.jsonl launch/sft.sh [--profile NAME]… [--dry-run] [-- SLIME ARGUMENTS]

SFT from INIT_DIR (default: MODEL_DIR) on SFT_DATA (slime-tau2 collect, import-sft or rft write it), into OUTPUT_DIR/checkpoints.
No server runs: all GPUs of the profile train. The same command resumes. Needs Ray (ray start --head).
TEXT
}
parse_options "$@"
need_options
: "${INIT_DIR:=$MODEL_DIR}"
: "${SFT_DATA:=$DATA_DIR/sft.jsonl}"
LR=$SFT_LR LR_DECAY=cosine
model_arguments
optimizer_arguments
runtime_environment
resolve_options

SFT_ARGS=(
  --rollout-function-path slime_tau2.hooks.sft.generate_rollout --custom-config-path "$OUTPUT_DIR/tau2.yaml"
  --prompt-data "$SFT_DATA" --input-key messages --tool-key tools
  --rollout-shuffle --num-epoch "$SFT_EPOCHS" --rollout-batch-size "$SFT_BATCH" --global-batch-size "$SFT_BATCH" --n-samples-per-prompt 1
  --loss-type sft_loss --calculate-per-token-loss --disable-compute-advantages-and-returns --debug-train-only
  --lr-warmup-fraction 0.1 --min-lr 1e-6
)
TRAIN_NODES=$NODES TRAIN_GPUS=$((GPUS_PER_NODE / TP * TP))
[ "$TRAIN_GPUS" -gt 0 ] || fail "TP=$TP is more than GPUS_PER_NODE=$GPUS_PER_NODE: a model's parts stay within a node"
TRAINER_NODES=$TRAIN_NODES TRAINERS=$((TRAIN_NODES * TRAIN_GPUS))
ROWS=0
if [ -f "$SFT_DATA" ]; then ROWS=$(grep -c . "$SFT_DATA" || true); fi
checkpoint_arguments "$SFT_SAVE_INTERVAL" "$((ROWS * SFT_EPOCHS / SFT_BATCH / SFT_SAVE_INTERVAL + SFT_EPOCHS))"

if [ "$DRY_RUN" = 0 ]; then
  need_file "$SFT_DATA" "write it with slime-tau2 collect, import-sft or rft, or set SFT_DATA"
  FITS=""
  if [ "$ROWS" -ge 8 ]; then FITS=", or --set SFT_BATCH=$((ROWS / 8 * 8))"; fi
  [ "$ROWS" -ge "$SFT_BATCH" ] || fail "$SFT_DATA has $ROWS rows and one step takes $SFT_BATCH: collect more$FITS"
  need_training train_async.py "leave INIT_DIR unset to start from MODEL_DIR"
  slime-tau2 check-sft "$SFT_DATA" --tokenizer "$MODEL_DIR" --max-tokens "$((MAX_TOKENS_PER_GPU * CP))" \
    --set "thinking=$OPTION_thinking" --set "train_thinking=$OPTION_train_thinking"
fi
write_file "$OUTPUT_DIR/tau2.yaml" <<< "$EFFECTIVE_OPTIONS"
submit "$SLIME_DIR/train_async.py" --actor-num-nodes "$TRAIN_NODES" --actor-num-gpus-per-node "$TRAIN_GPUS" \
  --num-gpus-per-node "$GPUS_PER_NODE" "${MODEL_ARGS[@]}" "${CHECKPOINT_ARGS[@]}" "${SFT_ARGS[@]}" "${OPTIMIZER_ARGS[@]}" \
  "${PARALLEL_ARGS[@]}" ${TRACK_ARGS[@]+"${TRACK_ARGS[@]}"}
