# shellcheck shell=bash disable=SC2034
# What every profile starts from: our recipe. 80 GB GPUs; docs/training.md has the memory arithmetic.

# the machine
NODES=1 GPUS_PER_NODE=8
ACTOR_NODES=1 ACTOR_GPUS=8        # Megatron's GPUs a node
POLICY_GPUS=0 USER_GPUS=0         # SGLang's, in slime's hands; USER_GPUS=0: the user simulator is another server (USER_URL)
COLOCATE=0                        # 1: the policy's servers share Megatron's GPUs and take turns with it
ASYNC=0                           # 1: train_async.py, the next rollout runs while this one trains
TP=2 CP=1
MEM_FRACTION=0.75                 # of a GPU, for SGLang's weights and KV cache
USER_MEM_FRACTION=0.85 USER_DEVICES=""  # of serve_user_sim.sh; the GPUs it may use ("": all)
CONTEXT=32768                     # longest episode, in tokens; the hooks clamp to it
MAX_TOKENS_PER_GPU=32768          # times CP must hold the longest episode: a longer one is not dropped, it runs out of memory
CONCURRENCY=48                    # live episodes a policy engine; most of them wait for the user at any time
NVLS=0

# the recipe
ROLLOUTS=300 GROUPS_A_ROLLOUT=32 SAMPLES=8 STEPS_A_ROLLOUT=2
OVER_SAMPLING=48                  # groups fetched at a time, so that dropped ones need no second round
TEMPERATURE=1.0
LR=1e-6 LR_DECAY=constant
EPS_CLIP=0.2 EPS_CLIP_HIGH=0.28
TIS=1                             # truncated importance sampling: SGLang's and Megatron's log-probs differ a little
SAVE_INTERVAL=10 EVAL_INTERVAL=20
SFT_LR=1e-5 SFT_BATCH=64 SFT_EPOCHS=3
TAU2_OVERRIDES=()
