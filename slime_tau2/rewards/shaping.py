"""Task reward and partial score -> training reward. Pure.

`gated` (default): a success earns 1 whatever its partial; a failure earns alpha times its strict partial. Hence
partials order failures among themselves and never pay more than a success. `card` is the model card author's formula,
which adds the partial to successes too and uses tau2's own fractions. `none` is the task reward.
"""

from __future__ import annotations

from typing import Any

from slime_tau2 import traits
from slime_tau2.rewards.partial import weighted
from slime_tau2.types import is_success


def shaped(
    kind: str,
    reward: float,
    partial: float,
    alpha: float,
    domain: str = "",
    card_components: dict[str, float] | None = None,
) -> float:
    """The training reward of one finished episode.

    Args:
        reward: tau2's, in [0, 1]; partial: the strict score, in [0, 1].
        card_components: tau2's own fractions (`card_fractions`), for kind `card` only.
    """
    if kind == "none":
        return reward
    if kind == "gated":
        return reward if is_success(reward) else max(reward, min(alpha, 1.0) * partial)
    if kind == "card":
        card = traits.of(domain)
        return reward + alpha * card.card_multiplier * weighted(card_components or {}, card.card_weights)
    raise ValueError(f"unknown shaping {kind!r}")


def card_fractions(reward_info: dict[str, Any]) -> dict[str, float]:
    """tau2's own fraction of each component that a RewardInfo (as JSON) reports; {} for an episode that
    did not finish.
    """
    sources = {
        "action": ("action_checks", "action_match"),
        "communicate": ("communicate_checks", "met"),
        "env_assertion": ("env_assertions", "met"),
    }
    out = {}
    for name, (field, flag) in sources.items():
        checks = reward_info.get(field) or []
        if checks:
            out[name] = sum(bool(c[flag]) for c in checks) / len(checks)
    return out
