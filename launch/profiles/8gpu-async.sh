# shellcheck shell=bash disable=SC2034
# Eight GPUs, disaggregated: four train, two serve the policy, two the user; the next rollout runs while this one trains.
GPUS_PER_NODE=8 ACTOR_GPUS=4 POLICY_GPUS=2 USER_GPUS=2 ASYNC=1
MEM_FRACTION=0.85 CONCURRENCY=128
