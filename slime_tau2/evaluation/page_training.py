"""The curves of a pipeline's training on its page: loss of SFT and RFT; reward and length over GRPO's rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Chart = dict[str, Any]
"""What `Viewer.chart` (viewer/charts.js) draws."""


def charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Lines of a local run's metrics.jsonl as charts."""
    offset = 0
    losses = []
    for stage, colour in (("sft", 0), ("rft", 2)):
        part = {row["step"]: row["loss"] for row in rows if row["stage"] == stage}
        losses.append(_curve(stage.upper(), colour, [(step + offset, loss) for step, loss in part.items()]))
        offset += max(part, default=0)
    grpo = {row["step"]: row for row in rows if row["stage"] == "grpo"}

    def over(key: str, name: str, colour: int) -> dict[str, Any]:
        return _curve(name, colour, [(step, grpo[step][key]) for step in sorted(grpo) if key in grpo[step]])

    return [
        _chart("SFT and RFT", "optimizer step", "loss (nats per trained token)", losses, log=True),
        _chart(
            "GRPO",
            "rollout",
            "mean of a rollout",
            [over("rollout/reward", "reward (train tasks)", 4), over("rollout/partial", "strict partial score", 3)],
            range=[0, 1],
        ),
        _chart(
            "Length of GRPO's episodes",
            "rollout",
            "tokens",
            [over("rollout/response_tokens", "response", 0), over("rollout/trained_tokens", "of these sampled", 1)],
        ),
    ]


def _curve(name: str, colour: int, points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    return {"name": name, "colour": colour, "points": [list(point) for point in points]}


def _chart(title: str, x: str, y: str, curves: list[dict[str, Any]], **more: Any) -> Chart:
    return {"title": title, "x": x, "y": y, "curves": [curve for curve in curves if curve["points"]], **more}
