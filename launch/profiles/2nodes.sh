# shellcheck shell=bash disable=SC2034
# Two nodes of eight: one trains, of the other six GPUs serve the policy and two the user.
NODES=2 GPUS_PER_NODE=8 ACTOR_GPUS=8 POLICY_GPUS=6 USER_GPUS=2 ASYNC=1
MEM_FRACTION=0.85 WORKERS=2 CONCURRENCY=96
GROUPS_A_ROLLOUT=64 OVER_SAMPLING=96
