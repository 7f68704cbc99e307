# shellcheck shell=bash disable=SC2034
# One GPU: Megatron and the policy's server take turns on it, Adam's state and steps are in host memory (75 GiB), and the user
# simulator has 17 GiB of the GPU all the time (`launch/serve_user_sim.sh --profile 1gpu`, before the job), or is elsewhere (USER_URL).
GPUS_PER_NODE=1 ACTOR_GPUS=1 POLICY_GPUS=1 COLOCATE=1
TP=1 CPU_OPTIMIZER=1
MEM_FRACTION=0.55 USER_MEM_FRACTION=0.18 USER_DEVICES=0
CONTEXT=14336 MAX_TOKENS_PER_GPU=14336 CONCURRENCY=16
GROUPS_A_ROLLOUT=8 OVER_SAMPLING=12
