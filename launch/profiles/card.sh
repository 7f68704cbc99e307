# shellcheck shell=bash disable=SC2034
# The recipe of the model card to compare with, on top of a machine's profile (`--profile 8gpu --profile card`): partial scores
# by tau2's own fractions added to every reward, standardised groups, 100 rollouts of at most 100 steps, temperature 0.7,
# one action per turn; evaluated at 0.8 with top-k 20. What the card does not say is ours.
ROLLOUTS=100 TEMPERATURE=0.7 TIS=0 LR=1e-6
EVAL_TEMPERATURE=0.8 EVAL_TOP_K=20
TAU2_OVERRIDES+=(tau2_shaping=card tau2_alpha=0.25 tau2_advantage=std tau2_max_steps=100 tau2_protocol=card)
