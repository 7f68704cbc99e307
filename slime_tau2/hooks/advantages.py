"""`--custom-advantage-function-path slime_tau2.hooks.advantages.turn_advantages`: copies what `reward_post_process`
decided.

Runs in the Megatron actors, whose ranks do not hold whole groups. So all group maths has happened before: with
`tau2_credit: turn` every sample carries one advantage a response token in `teacher_log_probs`, the one per-token float
field that slime ships, slices for context parallelism and moves to the device. `--use-opd` and `--normalize-advantages`
would overwrite or rescale it, so that they are refused (`check`).
"""

from __future__ import annotations

from typing import Any

from slime_tau2.config import Tau2Config
from slime_tau2.errors import ConfigError

FIELD = "teacher_log_probs"
PATH = f"{__name__}.turn_advantages"


def check(args: Any, config: Tau2Config) -> None:
    """Raises ConfigError where turn credit cannot reach the trainer.

    The local trainer has no such flag and calls the hook itself. slime has `advantage_estimator` beside it: without the
    flag, or in a version that does not know it, it would train on whole-episode advantages and say nothing.
    """
    if config.credit == "episode":
        return
    for flag in ("use_opd", "normalize_advantages"):
        if getattr(args, flag, False):
            raise ConfigError(
                f"tau2_credit: {config.credit} cannot be combined with --{flag.replace('_', '-')}; drop one of them"
            )
    path = getattr(args, "custom_advantage_function_path", None if hasattr(args, "advantage_estimator") else PATH)
    if path != PATH:
        got = "and it is absent" if path is None else f"not {path}"
        raise ConfigError(f"tau2_credit: {config.credit} needs --custom-advantage-function-path {PATH}, {got}")


def turn_advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    """Set `advantages` and `returns`: one float tensor a sample, aligned with its (context-parallel share of) response
    tokens.
    """
    carried = rollout_data.get(FIELD)
    if carried is not None and Tau2Config.from_args(args).credit != "episode":
        advantages = [a.float().clone() for a in carried]
    else:
        like = rollout_data.get("log_probs") or rollout_data["rollout_log_probs"]
        advantages = [
            lp.new_full(lp.shape, float(r)).float() for lp, r in zip(like, rollout_data["rewards"], strict=True)
        ]
    rollout_data["advantages"], rollout_data["returns"] = advantages, [a.clone() for a in advantages]
