# shellcheck shell=bash disable=SC2034
# Four GPUs, each with one task: two train, one serves the policy, one the user; the next rollout runs while this one trains.
GPUS_PER_NODE=4 ACTOR_GPUS=2 POLICY_GPUS=1 USER_GPUS=1 ASYNC=1
MEM_FRACTION=0.85 CONTEXT=24576 MAX_TOKENS_PER_GPU=24576 CONCURRENCY=64
GROUPS_A_ROLLOUT=16 OVER_SAMPLING=24
