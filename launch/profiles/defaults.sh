# shellcheck shell=bash disable=SC2034
# What every profile starts from: our recipe. 80 GB GPUs; docs/training.md has the memory arithmetic.

# the machine
NODES=1 GPUS_PER_NODE=8
ACTOR_NODES=1 ACTOR_GPUS=8        # Megatron's GPUs a node
POLICY_GPUS=0 USER_GPUS=0         # SGLang's, in slime's hands; USER_GPUS=0: the user simulator is another server (USER_URL)
USER_GPUS_PER_ENGINE=1            # of one copy of the simulator; 2 or 4 for a model that one GPU does not hold
COLOCATE=0                        # 1: the policy's servers share Megatron's GPUs and take turns with it
ASYNC=0                           # 1: train_async.py, the next rollout runs while this one trains
TP=2 CP=1
MEM_FRACTION=0.75                 # of a GPU, for SGLang's weights and KV cache
USER_MEM_FRACTION=0.85 USER_DEVICES=""  # of serve_user_sim.sh; the GPUs it may use ("": all)
CONTEXT=32768                     # longest episode, in tokens; the hooks clamp to it
MAX_TOKENS_PER_GPU=32768          # times CP must hold the longest episode: a longer one is not dropped, it runs out of memory
CONCURRENCY=48                    # live episodes a policy GPU; most of them wait for the user at any time
WORKERS=0                         # processes that play the episodes, a CPU each; 0: slime's rollout process does (docs/multinode.md)
CPU_OPTIMIZER=0                   # 1: Adam's state and steps in host memory
ROUTER_POLICY=""                  # "": consistent_hashing, or what the installed router has that keeps a conversation on one engine
FAULT_TOLERANCE=1                 # slime restarts a dead engine of the policy (never one of the user's) before the next weight update
NVLS=0

# the recipe
ROLLOUTS=300 GROUPS_A_ROLLOUT=32 SAMPLES=8 STEPS_A_ROLLOUT=2
OVER_SAMPLING=48                  # groups fetched at a time, so that dropped ones need no second round
TEMPERATURE=1.0
EVAL_TEMPERATURE="" EVAL_TOP_K=-1 # of evaluate.sh and of the evaluation in training; "": TEMPERATURE
LR=1e-6 LR_DECAY=constant
EPS_CLIP=0.2 EPS_CLIP_HIGH=0.28
TIS=1                             # truncated importance sampling: SGLang's and Megatron's log-probs differ a little
SAVE_INTERVAL=10 EVAL_INTERVAL=20
KEEP=newest                       # checkpoints: the newest alone, or all (52 GiB each for a 4B with its optimizer)
SFT_LR=1e-5 SFT_BATCH=64 SFT_EPOCHS=3 SFT_SAVE_INTERVAL=100
TAU2_OVERRIDES=()
