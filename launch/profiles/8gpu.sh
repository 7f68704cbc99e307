# shellcheck shell=bash disable=SC2034
# Eight GPUs: six train (TP 2, DP 3) and take turns with six policy servers; two serve the user.
GPUS_PER_NODE=8 ACTOR_GPUS=6 POLICY_GPUS=6 USER_GPUS=2 COLOCATE=1
GROUPS_A_ROLLOUT=36 OVER_SAMPLING=48
