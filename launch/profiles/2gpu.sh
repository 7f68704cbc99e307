# shellcheck shell=bash disable=SC2034
# Two GPUs: Megatron and the policy's servers take turns on both; the user simulator lives on the second one all the time
# (`launch/serve_user_sim.sh --profile 2gpu`, 14 GB), or anywhere else (USER_URL).
GPUS_PER_NODE=2 ACTOR_GPUS=2 POLICY_GPUS=2 COLOCATE=1
MEM_FRACTION=0.55 USER_MEM_FRACTION=0.18 USER_DEVICES=1
CONTEXT=16384 MAX_TOKENS_PER_GPU=16384 CONCURRENCY=24
GROUPS_A_ROLLOUT=8 OVER_SAMPLING=12
