# shellcheck shell=bash disable=SC2034
# The recipe of the model card to compare with, on top of a machine's profile (`--profile 8gpu --profile card`): partial scores
# by tau2's own fractions added to every reward, standardised groups, 100 steps, temperature 0.7,
# one action a turn. What the card does not say is ours.
TEMPERATURE=0.7 TIS=0 LR=1e-6
TAU2_OVERRIDES+=(tau2_shaping=card tau2_alpha=0.25 tau2_advantage=std tau2_max_steps=100 tau2_protocol=card)
