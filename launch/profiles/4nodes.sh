# shellcheck shell=bash disable=SC2034
# Four nodes of eight: two train (TP 2 within a node, DP 8), of the other sixteen GPUs twelve serve the policy and four the user. As
# many groups as on two nodes, for there are 142 train tasks, each of twice as many samples.
NODES=4 GPUS_PER_NODE=8 ACTOR_NODES=2 ACTOR_GPUS=8 POLICY_GPUS=12 USER_GPUS=4 ASYNC=1
MEM_FRACTION=0.85 WORKERS=2 CONCURRENCY=96
GROUPS_A_ROLLOUT=64 SAMPLES=16 OVER_SAMPLING=96
