"""`--custom-advantage-function-path slime_tau2.hooks.advantages.turn_advantages`: copies what `reward_post_process`
decided.

Runs in the Megatron actors, whose ranks do not hold whole groups. So all group maths has happened before: with credit
by turn or call every sample carries one advantage per response token in `teacher_log_probs`, the one per-token float
field that slime ships, slices for context parallelism and moves to the device. `--use-opd` and `--normalize-advantages`
would overwrite or rescale it, so they are refused (`check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slime_tau2.config import Tau2Config
from slime_tau2.errors import ConfigError
from slime_tau2.hooks.arguments import option

if TYPE_CHECKING:
    import torch

FIELD = "teacher_log_probs"
PATH = f"{__name__}.turn_advantages"


def check(args: object, config: Tau2Config) -> None:
    """See that credit by turn or call can reach the trainer.

    The local trainer has no such flag and calls the hook itself. slime has `advantage_estimator` beside it: without the
    flag, or in a version that does not know it, it would train on whole-episode advantages and say nothing.

    Raises:
        ConfigError: it cannot; names the flag.
    """
    if config.credit == "episode":
        return
    for flag in ("use_opd", "normalize_advantages"):
        if option(args, flag, False):
            raise ConfigError(
                f"tau2_credit: {config.credit} cannot be combined with --{flag.replace('_', '-')}; drop one of them"
            )
    unsaid = None if hasattr(args, "advantage_estimator") else PATH
    path: str | None = option(args, "custom_advantage_function_path", unsaid)
    if path != PATH:
        but = "and it is absent" if path is None else f"not {path}"
        raise ConfigError(f"tau2_credit: {config.credit} needs --custom-advantage-function-path {PATH}, {but}")


def turn_advantages(args: object, rollout_data: dict[str, Any]) -> None:
    """Set `advantages` and `returns`: one float tensor per sample, aligned with its (context-parallel share of)
    response tokens.
    """
    carried: Sequence[torch.Tensor] | None = rollout_data.get(FIELD)
    if carried is not None and Tau2Config.from_args(args).credit != "episode":
        advantages = [per_token.float().clone() for per_token in carried]
    else:
        shapes: Sequence[torch.Tensor] = rollout_data.get("log_probs") or rollout_data["rollout_log_probs"]
        rewards: Sequence[float] = rollout_data["rewards"]
        advantages = [
            like.new_full(like.shape, float(reward)).float() for like, reward in zip(shapes, rewards, strict=True)
        ]
    rollout_data["advantages"] = advantages
    rollout_data["returns"] = [per_token.clone() for per_token in advantages]
