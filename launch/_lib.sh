# shellcheck shell=bash disable=SC2034
# Sourced by the launch scripts of the GPU path: options, profiles, checks, and one way to show or run a command.
# Nothing here kills a process that it did not start, and no secret is ever written to a command line.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(dirname "$HERE")"
DRY_RUN=0
EXTRA=()
PROFILES=()
SETTINGS=()
DOMAINS=(airline retail telecom)                                  # trained and evaluated on; TAU2_CONFIG narrows what is trained on

say()  { echo "[$(basename "$0" .sh)] $*" >&2; }
fail() { echo "error: $*" >&2; exit 2; }

# absolute VARIABLE…: a Ray job runs in another directory than this shell, so that a path given from here must be whole
absolute() {
  local name
  for name in "$@"; do
    case "${!name:-}" in ""|/*) ;; *) printf -v "$name" '%s/%s' "$PWD" "${!name#./}" ;; esac
  done
}
absolute SLIME_DIR MEGATRON_DIR MODEL_DIR USER_MODEL_DIR DATA_DIR OUTPUT_DIR TAU2_CONFIG INIT_DIR SFT_DATA MODEL CHECKPOINT EXPORT_DIR EVAL_DIR \
  TAU2_DATA_DIR TAU2_AGENT_PROMPT TAU2_PREFIX_STARTS HF_HOME WANDB_DIR TENSORBOARD_DIR

# --- settings, each from the environment or its default ------------------------------------------------------------------
: "${SLIME_DIR:=/root/slime}"                                     # slime's source tree (train.py is not packaged)
: "${MEGATRON_DIR:=/root/Megatron-LM}"                            # Megatron-LM's source tree
: "${MODEL_DIR:=$ROOT/models/Qwen3-4B-Instruct-2507}"             # the Hugging Face model that training starts from
: "${MODEL_ARGS_SCRIPT:=scripts/models/qwen3-4B-Instruct-2507.sh}"  # slime's Megatron arguments of that architecture, in SLIME_DIR
: "${USER_MODEL_DIR:=$ROOT/models/Qwen3-4B-Instruct-2507}"        # the model that plays the user
: "${USER_MODEL:=$USER_MODEL_DIR}"                                # its name there (launch/serve_user_sim.sh: the path)
: "${USER_URL:=http://127.0.0.1:30001/v1}"                        # its server, where slime does not serve it itself
: "${DATA_DIR:=$ROOT/outputs/data}"                                # task index and SFT rows
case "$(basename "$0" .sh)" in sft|rft) STAGE_NAME=$(basename "$0" .sh) ;; *) STAGE_NAME=grpo ;; esac
: "${OUTPUT_DIR:=$ROOT/outputs/$STAGE_NAME}"                      # everything else that is written; one directory a stage
: "${TAU2_CONFIG:=$HERE/tau2.yaml}"                               # options of slime_tau2
: "${RAY_ADDRESS:=http://127.0.0.1:8265}"                         # Ray's job server

settings_help() {
  cat <<TEXT

Options:
  --profile NAME   $(cd "$HERE/profiles" && echo *.sh | sed 's/\.sh//g'); repeatable, a later one wins (default: 8gpu)
  --set NAME=VALUE a setting of launch/profiles/defaults.sh, or an option of slime_tau2 (--set tau2_credit=turn); repeatable, wins over profiles
  --dry-run        print the exact command, one argument a line, and check nothing
  --help           this text
  -- ARGS          appended to the command as they are (paths among them must be absolute: a Ray job runs elsewhere)

Settings (environment):
  SLIME_DIR=$SLIME_DIR
  MEGATRON_DIR=$MEGATRON_DIR
  MODEL_DIR=$MODEL_DIR
  USER_MODEL_DIR=$USER_MODEL_DIR
  USER_MODEL=$USER_MODEL
  USER_URL=$USER_URL
  DATA_DIR=$DATA_DIR
  OUTPUT_DIR=$OUTPUT_DIR
  TAU2_CONFIG=$TAU2_CONFIG
  RAY_ADDRESS=$RAY_ADDRESS
  JOB_ENV=${JOB_ENV:-}   (further variables of this shell that the job gets; TAU2_*, NCCL_*, GLOO_*, SLIME_*, no_proxy, … go by themselves, keys never)
  WANDB_PROJECT=${WANDB_PROJECT:-}   (empty: no W&B; the key WANDB_API_KEY belongs into the environment of \`ray start\`)
TEXT
}

# parse_options "$@": sets DRY_RUN, PROFILES, EXTRA. `usage` is the script's own function.
parse_options() {
  while [ $# -gt 0 ]; do
    case "$1" in
      --help|-h) usage; settings_help; exit 0 ;;
      --dry-run) DRY_RUN=1 ;;
      --profile) [ $# -gt 1 ] || fail "--profile needs a name"; PROFILES+=("$2"); shift ;;
      --set) case "${2:-}" in ?*=*) SETTINGS+=("$2"); shift ;; *) fail "--set needs NAME=VALUE, not '${2:-}'" ;; esac ;;
      --) shift; EXTRA=("$@"); break ;;
      *) fail "unknown option $1; --help lists them, arguments for the program itself go behind --" ;;
    esac
    shift
  done
  [ ${#PROFILES[@]} -gt 0 ] || PROFILES=(8gpu)
  local name
  for name in defaults "${PROFILES[@]}"; do
    # a name, not a path: what is sourced lies in launch/profiles
    { [[ $name =~ ^[A-Za-z0-9-]+$ ]] && [ -f "$HERE/profiles/$name.sh" ]; } || fail "no profile $name; there are: $(cd "$HERE/profiles" && echo *.sh | sed 's/\.sh//g')"
    # shellcheck disable=SC1090
    source "$HERE/profiles/$name.sh"
  done
  for name in ${SETTINGS[@]+"${SETTINGS[@]}"}; do setting "$name"; done
  for name in ${TAU2_OVERRIDES[@]+"${TAU2_OVERRIDES[@]}"}; do
    { [[ $name =~ ^tau2_[a-z_]+= ]] && [[ $name != *$'\n'* ]]; } || fail "--set $name: an option of slime_tau2 is tau2_ and small letters, on one line"
  done
  whole_numbers "${WHOLE[@]}"
}

# The settings that are whole numbers: NAME:LEAST, or NAME:LEAST:MOST. The rest of defaults.sh is fractions, rates and words.
WHOLE=(
  NODES:1 GPUS_PER_NODE:1 ACTOR_NODES:1 ACTOR_GPUS:1 POLICY_GPUS:0 USER_GPUS:0 USER_GPUS_PER_ENGINE:1 COLOCATE:0:1 ASYNC:0:1 TP:1 CP:1
  CONTEXT:1 MAX_TOKENS_PER_GPU:1 CONCURRENCY:1 WORKERS:0 CPU_OPTIMIZER:0:1 FAULT_TOLERANCE:0:1 NVLS:0 TIS:0:1
  ROLLOUTS:0 GROUPS_A_ROLLOUT:1 SAMPLES:1 STEPS_A_ROLLOUT:1 OVER_SAMPLING:1 SAVE_INTERVAL:1 EVAL_INTERVAL:0 EVAL_TOP_K:-1
  SFT_BATCH:1 SFT_EPOCHS:1 SFT_SAVE_INTERVAL:1
)

# whole_numbers NAME:LEAST[:MOST]…: bash's arithmetic would take a word for a variable, 08 for octal, and a test of either for "no"
whole_numbers() {
  local entry name least most wanted
  for entry in "$@"; do
    IFS=: read -r name least most <<< "$entry"
    wanted="a whole number of at least $least"
    if [ -n "$most" ]; then wanted="a whole number from $least to $most"; fi
    [[ ${!name} =~ ^(0|-?[1-9][0-9]{0,14})$ ]] && [ "${!name}" -ge "$least" ] && [ "${!name}" -le "${most:-${!name}}" ] \
      || fail "$name=${!name}: $wanted"
  done
}

# setting NAME=VALUE: of defaults.sh, or tau2_…
setting() {
  local name="${1%%=*}"
  case "$name" in
    tau2_?*) TAU2_OVERRIDES+=("$1") ;;
    *)
      grep -oE '(^| )[A-Z_0-9]+=' "$HERE/profiles/defaults.sh" | tr -d ' ' | grep -qxF "$name=" \
        || fail "--set $1: launch/profiles/defaults.sh has no $name; options of slime_tau2 begin with tau2_"
      printf -v "$name" '%s' "${1#*=}" ;;
  esac
}

# joined_domains: DOMAINS as an option of slime-tau2 takes them
joined_domains() { local IFS=,; echo "${DOMAINS[*]}"; }

# --- checks: each names the thing, the value and the fix ------------------------------------------------------------------
need_directory() { [ -d "$2" ] || fail "$1=$2 does not exist; $3"; }
need_file()      { [ -f "$1" ] || fail "$1 does not exist; $2"; }
need_command()   { command -v "$1" >/dev/null || fail "$1 is not on PATH; $2"; }

# doctor OPTIONS: what it finds wanting, one line each with the fix, on stderr; the script ends there
doctor() {
  need_command slime-tau2 "bash launch/setup.sh"
  slime-tau2 doctor --quiet "$@" >&2 || { echo "error: not everything is in place; see above" >&2; exit 2; }
}

# rotary_base: Megatron's, of MODEL_ARGS
rotary_base() { printf '%s\n' "${MODEL_ARGS[@]}" | grep -A1 -- '^--rotary-base$' | tail -1; }

# plan: what doctor computes disk, memory and GPUs from
plan() {
  local engines=${ROLLOUT_GPUS:-0} players=0 gpus
  gpus=$((TRAINERS + engines))
  if [ "$COLOCATE" = 1 ] && [ "$engines" -gt 0 ]; then gpus=$((TRAINERS > engines ? TRAINERS : engines)); fi
  # a dry run without the package may have no number there
  if [ "$engines" -gt 0 ] && [[ $OPTION_workers =~ ^[0-9]+$ ]]; then players=$OPTION_workers; fi
  printf 'nodes=%s,gpus_per_node=%s,gpus=%s,trainers=%s,trainer_nodes=%s,engines=%s,tp=%s,colocate=%s,cpu_optimizer=%s,kept=%s,workers=%s' \
    "$NODES" "$GPUS_PER_NODE" "$gpus" "$TRAINERS" "$TRAINER_NODES" "$engines" "$TP" "$((engines > 0 ? COLOCATE : 0))" "$CPU_OPTIMIZER" "$KEPT" "$players"
}

# need_training ENTRY INIT_FIX [DOCTOR OPTIONS]: what SFT and GRPO both need; MODEL_ARGS, TRAINERS, KEPT and RUNTIME_ENV are set
need_training() {
  need_directory SLIME_DIR "$SLIME_DIR" "clone slime v0.3.1 there, or run inside its container"
  need_file "$SLIME_DIR/$1" "SLIME_DIR must be slime's source tree (v0.3.1)"
  need_directory MEGATRON_DIR "$MEGATRON_DIR" "slime's container has it at /root/Megatron-LM"
  mkdir -p "$DATA_DIR"
  local key=()
  if [ -n "${WANDB_PROJECT:-}" ] && [ "${WANDB_MODE:-}" != offline ]; then key=(--job-key WANDB_API_KEY); fi
  PYTHONPATH="$MEGATRON_DIR:$SLIME_DIR:${PYTHONPATH:-}" doctor --train --gpus "$GPUS_PER_NODE" --model "$MODEL_DIR" \
    --rotary-base "$(rotary_base)" --output "$OUTPUT_DIR" --disk 10 --plan "$(plan)" --runtime-env "$RUNTIME_ENV" \
    --shared "$DATA_DIR" --shared "$INIT_DIR" ${key[@]+"${key[@]}"} --ray "$RAY_ADDRESS" "${@:3}"
  need_directory INIT_DIR "$INIT_DIR" "$2"
}

# --- pieces that SFT and GRPO share ----------------------------------------------------------------------------------------
# model_arguments: MODEL_ARGS from slime's own script, so that no figure of the architecture is copied here
model_arguments() {
  MODEL_ARGS=()
  if [ -f "$SLIME_DIR/$MODEL_ARGS_SCRIPT" ]; then
    # shellcheck disable=SC1090
    source "$SLIME_DIR/$MODEL_ARGS_SCRIPT"
  elif [ "$DRY_RUN" = 1 ]; then
    MODEL_ARGS=("\${MODEL_ARGS[@]:from:$SLIME_DIR/$MODEL_ARGS_SCRIPT}")
  else
    fail "$SLIME_DIR/$MODEL_ARGS_SCRIPT does not exist; set SLIME_DIR to slime's source tree (v0.3.1)"
  fi
}

ADAM_THREADS=8 # of the host's Adam, per trainer
optimizer_arguments() {
  OPTIMIZER_ARGS=(
    --optimizer adam --lr "$LR" --lr-decay-style "$LR_DECAY" --weight-decay 0.1 --adam-beta1 0.9 --adam-beta2 0.98 --clip-grad 1.0
  )
  PARALLEL_ARGS=(
    --tensor-model-parallel-size "$TP" --sequence-parallel --pipeline-model-parallel-size 1 --context-parallel-size "$CP"
    --recompute-granularity full --recompute-method uniform --recompute-num-layers 1
    --use-dynamic-batch-size --max-tokens-per-gpu "$MAX_TOKENS_PER_GPU"
    --attention-dropout 0.0 --hidden-dropout 0.0 --accumulate-allreduce-grads-in-fp32 --attention-softmax-in-fp32
    --attention-backend flash
  )
  if [ "$CPU_OPTIMIZER" = 1 ]; then
    OPTIMIZER_ARGS+=(--optimizer-cpu-offload --overlap-cpu-optimizer-d2h-h2d --use-precision-aware-optimizer)
    # slime asks Ray for less than one CPU per trainer, and Ray then gives the host's Adam one thread, with which it takes twice as long
    OPTIMIZER_ARGS+=(--train-env-vars "{\"OMP_NUM_THREADS\": \"$ADAM_THREADS\"}")
  fi
  TRACK_ARGS=()
  if [ -n "${WANDB_PROJECT:-}" ]; then TRACK_ARGS=(--use-wandb --wandb-project "$WANDB_PROJECT" --wandb-group "$(basename "$OUTPUT_DIR")"); fi
}

# checkpoint_arguments INTERVAL SAVES: CHECKPOINT_ARGS, and KEPT, how many lie on the disk at most.
# Megatron keeps every checkpoint whose number is a multiple of its retain interval; slime's numbers end in …9, so that a large one keeps
# the newest alone. It deletes the one before only when the tracker names the new one: for a while there are two.
# What the command line says of the schedule wins over the checkpoint: a run can go on for longer, or with another profile.
checkpoint_arguments() {
  CHECKPOINT_ARGS=(
    --hf-checkpoint "$MODEL_DIR" --ref-load "$INIT_DIR" --load "$OUTPUT_DIR/checkpoints" --save "$OUTPUT_DIR/checkpoints"
    --save-interval "$1" --override-opt-param-scheduler
  )
  case "$KEEP" in
    newest) CHECKPOINT_ARGS+=(--save-retain-interval "$(($1 * 1000000))"); KEPT=2 ;;
    all) KEPT=$2 ;;
    *) fail "KEEP=$KEEP: there are newest and all" ;;
  esac
}

# router_policy: sets ROUTER_POLICY where nobody named one, by what the installed router can do
router_policy() {
  [ -n "$ROUTER_POLICY" ] || ROUTER_POLICY=$(PYTHONPATH="$ROOT:${PYTHONPATH:-}" python3 -m slime_tau2.doctor.router) || ROUTER_POLICY=consistent_hashing
}

# write_file PATH < TEXT: whole or not at all; a dry run shows it instead
write_file() {
  if [ "$DRY_RUN" = 1 ]; then
    echo "# $1:"; sed 's/^/#   /'; return
  fi
  mkdir -p "$(dirname "$1")"
  cat > "$1.part" && mv "$1.part" "$1"
}

# need_options: TAU2_CONFIG must be there, or every option of it would be the default
need_options() { need_file "$TAU2_CONFIG" "TAU2_CONFIG is the YAML file of slime_tau2's options; leave it unset for launch/tau2.yaml"; }

# resolve_options: the options that the job will have, by what reads them there; TAU2_DEFAULTS are those that nobody named.
# Sets EFFECTIVE_OPTIONS, EPISODE_OPTIONS and OPTION_…, as effective_options.py says.
TAU2_DEFAULTS=() EFFECTIVE_OPTIONS="" EPISODE_OPTIONS=() OPTION_credit="" OPTION_split="" OPTION_i_know="" OPTION_thinking="" OPTION_train_thinking="" OPTION_workers=""
resolve_options() {
  local entry arguments=("$TAU2_CONFIG") assignments
  if [ "$DRY_RUN" = 1 ]; then arguments+=(--dry-run); fi
  for entry in ${TAU2_DEFAULTS[@]+"${TAU2_DEFAULTS[@]}"}; do arguments+=("--default=$entry"); done
  for entry in ${TAU2_OVERRIDES[@]+"${TAU2_OVERRIDES[@]}"}; do arguments+=("--set=$entry"); done
  assignments=$(PYTHONPATH="$ROOT:${PYTHONPATH:-}" python3 "$HERE/effective_options.py" "${arguments[@]}") || exit 2
  eval "$assignments"
}

# show_or_run CMD…: the dry run prints one argument a line, quoted so that it can be pasted
show_or_run() {
  if [ "$DRY_RUN" = 1 ]; then
    local word
    for word in "$@" ${EXTRA[@]+"${EXTRA[@]}"}; do printf '%q \\\n' "$word"; done | sed '$ s/ \\$//'
    return
  fi
  "$@" ${EXTRA[@]+"${EXTRA[@]}"}
}

# evaluate DOMAINS SPLIT ATTEMPTS USER_MODEL RETAIL_BASIS OUTPUT TEMPERATURE TOP_K: attempts of the served policy, against the user at
# USER_URL; after resolve_options
evaluate() {
  show_or_run slime-tau2 eval --policy "$POLICY_URL" --tokenizer "$MODEL_DIR" --domain "$1" --split "$2" --attempts "$3" \
    --temperature "$7" --top-k "$8" --concurrency "$CONCURRENCY" --output "$6" --set "max_context_tokens=$CONTEXT" \
    ${EPISODE_OPTIONS[@]+"${EPISODE_OPTIONS[@]}"} --set "user_base_url=$USER_URL" --set "user_model=$4" --set "retail_basis=$5" \
    --set seeded_sampling=false
}

# runtime_environment: sets RUNTIME_ENV, what the job gets of this shell and of the settings: paths and switches, never a key
runtime_environment() {
  local path="$MEGATRON_DIR:$SLIME_DIR:$ROOT" entry
  local -a entries
  IFS=: read -ra entries <<< "${PYTHONPATH:-}"                    # modules of the user's own (tau2_plugins) lie there
  for entry in ${entries[@]+"${entries[@]}"}; do
    if [ -n "$entry" ]; then absolute entry; path+=":$entry"; fi
  done
  RUNTIME_ENV=$(NODES="$NODES" python3 "$HERE/runtime_env.py" "PYTHONPATH=$path" CUDA_DEVICE_MAX_CONNECTIONS=1 "NCCL_NVLS_ENABLE=$NVLS") || exit 2
}

# submit ENTRYPOINT ARGS…: a Ray job; on several nodes with somebody who counts them
submit() {
  local counted=()
  if [ "$NODES" -gt 1 ]; then counted=("$HERE/on_nodes.py" "$NODES" "$(plan | tr , '\n' | sed -n 's/^gpus=//p')"); fi
  if [ "$DRY_RUN" = 1 ]; then echo "# checked before the job: slime-tau2 doctor --plan $(plan)"; fi
  show_or_run ray job submit --address "$RAY_ADDRESS" --runtime-env-json "$RUNTIME_ENV" -- python3 ${counted[@]+"${counted[@]}"} "$@"
}
