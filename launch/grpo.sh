#!/usr/bin/env bash
# GRPO with slime: Megatron trains, SGLang serves, the hooks of slime_tau2 play the episodes. See --help.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/_lib.sh"

usage() {
  cat <<TEXT
usage: launch/grpo.sh [--profile NAME]… [--dry-run] [-- SLIME ARGUMENTS]

GRPO from INIT_DIR (a Hugging Face directory or a torch_dist checkpoint; default: MODEL_DIR), into OUTPUT_DIR/checkpoints.
Every EVAL_INTERVAL rollouts it evaluates on the val tasks, never on test. The same command resumes. Ctrl-C stops watching, not the job: ray job stop does. Needs Ray (ray start --head) and, in profiles without GPUs of its own for it, the user simulator at USER_URL.
TEXT
}
parse_options "$@"
whole_numbers POLICY_GPUS:1
need_options
: "${INIT_DIR:=$MODEL_DIR}"
model_arguments
optimizer_arguments
runtime_environment

ROLLOUT_GPUS=$((POLICY_GPUS + USER_GPUS)) TRAINER_NODES=$ACTOR_NODES TRAINERS=$((ACTOR_NODES * ACTOR_GPUS))
# slime multiplies its limit by every rollout GPU, the user's too
SERVER_CONCURRENCY=$(((CONCURRENCY * POLICY_GPUS + ROLLOUT_GPUS - 1) / ROLLOUT_GPUS))
LIVE=$((SERVER_CONCURRENCY * ROLLOUT_GPUS))

[ $((USER_GPUS % USER_GPUS_PER_ENGINE)) = 0 ] || fail "USER_GPUS=$USER_GPUS is no multiple of USER_GPUS_PER_ENGINE=$USER_GPUS_PER_ENGINE"
if [ "$USER_GPUS" -gt 0 ]; then
  TAU2_OVERRIDES+=(tau2_user_base_url=slime:user_sim "tau2_user_model=$USER_MODEL_DIR")
else
  TAU2_OVERRIDES+=("tau2_user_base_url=$USER_URL" "tau2_user_model=$USER_MODEL")
fi
# a live episode has one request at a time, with the policy or with the user
TAU2_DEFAULTS=("tau2_policy_concurrency=$LIVE" "tau2_user_concurrency=$LIVE" "tau2_workers=$WORKERS")
resolve_options

checkpoint_arguments "$SAVE_INTERVAL" "$(((ROLLOUTS + SAVE_INTERVAL - 1) / SAVE_INTERVAL))"
HOOK_ARGS=(
  --custom-generate-function-path slime_tau2.hooks.generate.generate
  --custom-rm-path slime_tau2.hooks.rewards.reward
  --custom-reward-post-process-path slime_tau2.hooks.rewards.reward_post_process
  --data-source-path slime_tau2.hooks.data_source.Tau2DataSource
  --dynamic-sampling-filter-path slime_tau2.hooks.filters.dynamic_sampling_filter
  --buffer-filter-path slime_tau2.hooks.filters.buffer_filter
  --rollout-sample-filter-path slime_tau2.hooks.filters.rollout_sample_filter
  --rollout-all-samples-process-path slime_tau2.hooks.filters.process_all_samples
  --custom-rollout-log-function-path slime_tau2.hooks.metrics.log_rollout
  --custom-eval-rollout-log-function-path slime_tau2.hooks.metrics.log_eval
  --rollout-data-postprocess-path slime_tau2.hooks.trainer_dump.keep_log_probs
  --custom-config-path "$OUTPUT_DIR/tau2.yaml"
)
case "$OPTION_credit" in turn* | call) HOOK_ARGS+=(--custom-advantage-function-path slime_tau2.hooks.advantages.turn_advantages) ;; esac
ROLLOUT_ARGS=(
  --prompt-data "$DATA_DIR/tasks.jsonl" --input-key prompt --metadata-key metadata
  --num-rollout "$ROLLOUTS" --rollout-batch-size "$GROUPS_A_ROLLOUT" --n-samples-per-prompt "$SAMPLES"
  --over-sampling-batch-size "$OVER_SAMPLING" --num-steps-per-rollout "$STEPS_A_ROLLOUT"
  --rollout-max-response-len "$CONTEXT" --rollout-temperature "$TEMPERATURE" --balance-data
)
if [ "$EVAL_INTERVAL" -gt 0 ]; then
  # on val: the hooks refuse test tasks there, and tasks that are trained on
  case "$OPTION_split:$OPTION_i_know" in
    train+val:[Tt]rue) ;;
    train+val:*) fail "tau2_split=train+val trains on the tasks that EVAL_INTERVAL=$EVAL_INTERVAL evaluates on; --set EVAL_INTERVAL=0, or train on tau2_split=train" ;;
  esac
  ROLLOUT_ARGS+=(--eval-interval "$EVAL_INTERVAL" --eval-config "$OUTPUT_DIR/eval.yaml" --skip-eval-before-train)
fi
LOSS_ARGS=(--advantage-estimator grpo --eps-clip "$EPS_CLIP" --eps-clip-high "$EPS_CLIP_HIGH" --entropy-coef 0.0)
if [ "$TIS" = 1 ]; then LOSS_ARGS+=(--use-tis); fi
router_policy
SERVER_ARGS=(
  --rollout-num-gpus "$ROLLOUT_GPUS" --rollout-num-gpus-per-engine 1 --num-gpus-per-node "$GPUS_PER_NODE"
  --sglang-mem-fraction-static "$MEM_FRACTION" --sglang-context-length "$CONTEXT" --sglang-server-concurrency "$SERVER_CONCURRENCY"
  --router-policy "$ROUTER_POLICY"
)
# `manual` deals new conversations out at random by default: an even deal keeps its engines equally busy
if [ "$ROUTER_POLICY" = manual ]; then SERVER_ARGS+=(--router-assignment-mode min_group); fi
if [ "$FAULT_TOLERANCE" = 1 ]; then SERVER_ARGS+=(--use-fault-tolerance); fi
ACTOR_ARGS=(--actor-num-nodes "$ACTOR_NODES" --actor-num-gpus-per-node "$ACTOR_GPUS")
if [ "$COLOCATE" = 1 ]; then ACTOR_ARGS+=(--colocate); fi

if [ "$USER_GPUS" -gt 0 ]; then SERVER_ARGS+=(--sglang-config "$OUTPUT_DIR/sglang.yaml" --sglang-tool-call-parser qwen25); fi

if [ "$DRY_RUN" = 0 ]; then
  if [ "$USER_GPUS" -gt 0 ]; then SIMULATOR=(--model "$USER_MODEL_DIR"); else SIMULATOR=(--user "$USER_URL" --user-model "$USER_MODEL"); fi
  need_training train.py "run launch/sft.sh and launch/rft.sh first, or leave INIT_DIR unset" --router-policy "$ROUTER_POLICY" "${SIMULATOR[@]}"
  python3 -c 'import slime_tau2.hooks.generate' || fail "slime_tau2 cannot be imported; bash launch/setup.sh"
  [ -f "$DATA_DIR/tasks.jsonl" ] || slime-tau2 tasks --domain "$(joined_domains)" --split train --output "$DATA_DIR/tasks.jsonl"
  for domain in "${DOMAINS[@]}"; do
    [ -f "$DATA_DIR/val_$domain.jsonl" ] || slime-tau2 tasks --domain "$domain" --split val --output "$DATA_DIR/val_$domain.jsonl"
  done
fi
write_file "$OUTPUT_DIR/tau2.yaml" <<< "$EFFECTIVE_OPTIONS"
if [ "$USER_GPUS" -gt 0 ]; then
  # slime serves the simulator as a second model. `update_weights: false` must be spelled out: with the policy's own path it
  # would be taken for one that is trained.
  write_file "$OUTPUT_DIR/sglang.yaml" <<YAML
sglang:
  - name: actor
    update_weights: true
    server_groups: [{worker_type: regular, num_gpus: $POLICY_GPUS, num_gpus_per_engine: 1}]
  - name: user_sim
    model_path: $USER_MODEL_DIR
    update_weights: false
    server_groups: [{worker_type: regular, num_gpus: $USER_GPUS, num_gpus_per_engine: $USER_GPUS_PER_ENGINE}]
YAML
fi
if [ "$EVAL_INTERVAL" -gt 0 ]; then
  write_file "$OUTPUT_DIR/eval.yaml" <<YAML
eval:
  defaults: {max_response_len: $CONTEXT, temperature: ${EVAL_TEMPERATURE:-$TEMPERATURE}, top_p: 1.0, top_k: $EVAL_TOP_K, n_samples_per_eval_prompt: 1}
  datasets:
$(for domain in "${DOMAINS[@]}"; do
  echo "    - {name: $domain, path: $DATA_DIR/val_$domain.jsonl, input_key: prompt, metadata_key: metadata}"
done)
YAML
fi
ENTRY=train.py
if [ "$ASYNC" = 1 ]; then ENTRY=train_async.py; fi
submit "$SLIME_DIR/$ENTRY" "${ACTOR_ARGS[@]}" "${MODEL_ARGS[@]}" "${CHECKPOINT_ARGS[@]}" "${ROLLOUT_ARGS[@]}" "${HOOK_ARGS[@]}" \
  "${LOSS_ARGS[@]}" "${OPTIMIZER_ARGS[@]}" "${PARALLEL_ARGS[@]}" "${SERVER_ARGS[@]}" ${TRACK_ARGS[@]+"${TRACK_ARGS[@]}"}
