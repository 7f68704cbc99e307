# shellcheck shell=bash disable=SC2034
# Eight nodes of eight: four train (TP 2 within a node, DP 16), of the other 32 GPUs 24 serve the policy and eight, one node, the user.
# As many groups as on two nodes, each of four times as many samples.
NODES=8 GPUS_PER_NODE=8 ACTOR_NODES=4 ACTOR_GPUS=8 POLICY_GPUS=24 USER_GPUS=8 ASYNC=1
MEM_FRACTION=0.85 WORKERS=4 CONCURRENCY=96
GROUPS_A_ROLLOUT=64 SAMPLES=32 OVER_SAMPLING=96
