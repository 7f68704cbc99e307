"""What a training spent: episodes and tokens that it sampled, sequences and tokens that it trained on.

Two trainings are compared at equal budgets only by these figures. All are counted from what the training left: GRPO's
and RFT's steps in metrics.jsonl, RFT's samples in their records. A step or a rollout that was made again after an
interruption counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from slime_tau2.data import records
from slime_tau2.experiments import directory as layout
from slime_tau2.types import is_success


class Point(NamedTuple):
    """One point of a learning curve: everything sampled so far, and the success among what was sampled last."""

    episodes: int
    tokens: int
    success: float


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What one stage of a run spent."""

    episodes: int
    """Episodes that were sampled, those included that were dropped, or cut off at the end of a rollout."""
    sampled_tokens: int
    """Tokens that the policy sampled in them."""
    sequences: int
    """Sequences that were trained on, each as often as it was."""
    trained_tokens: int
    """Tokens that were trained on, likewise."""
    different: int
    """How many different sequences those were."""
    steps: int
    """Optimizer steps, or rollouts of GRPO."""
    eased: int = 0
    """Of the episodes, those that began within a success (`tau2_prefix_starts`)."""

    @property
    def epochs(self) -> float:
        """How often each sequence was trained on."""
        return self.sequences / max(self.different, 1)

    def to_json(self) -> dict[str, float]:
        return {**asdict(self), "epochs": round(self.epochs, 2)}


def spent(run: Path, stage: str) -> tuple[Spending, list[Point]]:
    """What a stage, `rft` or `grpo`, spent on its way, and its learning curve.

    RFT samples with the model that it starts from: its curve has one point.

    Raises:
        ConfigError: a file of the run is broken.
    """
    steps = layout.steps(run, stage)
    trained = {
        "sequences": _total(steps, "trained_samples"),
        "trained_tokens": _total(steps, "trained_tokens"),
        "steps": len(steps),
    }
    if stage == layout.STAGES[-1]:
        curve = _curve(steps)
        last = curve[-1] if curve else Point(0, 0, 0.0)
        sampled = Spending(
            episodes=last.episodes,
            sampled_tokens=last.tokens,
            different=trained["sequences"],
            eased=_total(steps, "rollout/eased"),
            **trained,
        )
        return sampled, curve
    path = layout.rft_samples(run) / records.FILE
    rows = [r for r in records.read(path) if r["reward"] is not None] if path.exists() else []
    tokens, wins = sum(r["sampled_tokens"] for r in rows), sum(is_success(r["reward"]) for r in rows)
    data = layout.rft_data(run)
    kept = sum(1 for _ in data.open(encoding="utf-8")) if data.exists() else 0
    curve = [Point(len(rows), tokens, wins / len(rows))] if rows else []
    different = min(kept, trained["sequences"])
    return Spending(episodes=len(rows), sampled_tokens=tokens, different=different, **trained), curve


def _curve(rollouts: Sequence[dict[str, Any]]) -> list[Point]:
    out, episodes, tokens = list[Point](), 0, 0
    for row in rollouts:
        episodes += int(row["rollout/episodes"] + row["rollout/cut_off"])
        tokens += int(row["rollout/sampled_tokens"])
        out.append(Point(episodes, tokens, float(row["rollout/success"])))
    return out


def _total(steps: Sequence[dict[str, Any]], key: str) -> int:
    return sum(int(step[key]) for step in steps)
