"""Task reward and partial score -> training reward. Pure.

`gated` (default): a success earns 1 whatever its partial; a failure earns alpha times its strict partial. Hence
partials order failures among themselves and never pay more than a success. `card` is the model card author's formula,
which adds the partial to successes too and uses tau2's own fractions. `none` is the task reward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from slime_tau2 import traits
from slime_tau2.rewards.partial import weighted
from slime_tau2.terminations import Termination
from slime_tau2.types import is_success

Shaping: TypeAlias = Callable[[float, Mapping[str, Any]], float]
"""A shaping of your own: (task reward, what is known of the episode) -> training reward (docs/extending.md)."""


def training_reward(
    reward: float, episode: Mapping[str, Any], *, shaping: str | Shaping, alpha: float, overlong_penalty: float = 0.0
) -> float:
    """The training reward of one finished episode: shaped, less the penalty of one that ran out of tokens or steps.

    Args:
        reward: tau2's, in [0, 1].
        episode: what is known of the episode: `domain`, `termination`, `partial` (the strict score, in [0, 1]),
            `card_components` (`card_fractions`). Each may be absent.
        shaping: a kind (`shaped`), or a function of your own.
        alpha: factor of the partial score.
        overlong_penalty: subtracted from an episode that ran out; 0.0 for none.
    """
    if callable(shaping):
        earned = float(shaping(reward, episode))
    else:
        earned = shaped(
            shaping,
            reward,
            partial=episode.get("partial", 0.0),
            alpha=alpha,
            domain=episode.get("domain", ""),
            card_components=episode.get("card_components"),
        )
    ended = episode.get("termination")
    if ended is not None and Termination(ended).exhausted:
        earned -= overlong_penalty
    return earned


def shaped(
    kind: str,
    reward: float,
    *,
    partial: float,
    alpha: float,
    domain: str = "",
    card_components: Mapping[str, float] | None = None,
) -> float:
    """The shaped reward of one finished episode.

    Args:
        kind: gated, card or none.
        reward: tau2's, in [0, 1].
        partial: the strict score, in [0, 1].
        card_components: tau2's own fractions (`card_fractions`), for kind `card` only.

    Raises:
        ValueError: no such kind.
    """
    if kind == "none":
        return reward
    if kind == "gated":
        return reward if is_success(reward) else max(reward, min(alpha, 1.0) * partial)
    if kind == "card":
        card = traits.of(domain)
        return reward + alpha * card.card_multiplier * weighted(card_components or {}, card.card_weights)
    raise ValueError(f"unknown shaping {kind!r}")


def card_fractions(reward_info: Mapping[str, Any] | None) -> dict[str, float]:
    """tau2's own fraction of each component that a RewardInfo (as JSON) reports; {} for an episode without one."""
    sources = {
        "action": ("action_checks", "action_match"),
        "communicate": ("communicate_checks", "met"),
        "env_assertion": ("env_assertions", "met"),
    }
    fractions: dict[str, float] = {}
    if reward_info is None:
        return fractions
    for component, (field, flag) in sources.items():
        checks = reward_info.get(field) or []
        if checks:
            fractions[component] = sum(bool(check[flag]) for check in checks) / len(checks)
    return fractions
