"""The settings under which others published, each under one name, so that a score can be put beside theirs.

`card` is the model card's, with its protocol of one action per turn (`--set protocol=native` measures the same under
Qwen's own); `leaderboard` is tau2's own. What the command line says wins over a preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OPENAI = "https://api.openai.com/v1"
OPTIONS: Mapping[str, Any] = {"seeded_sampling": True, "retail_basis": "judge"}
"""Options of the package that have another default in `eval`; the user, too, is by default what suits the policy."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults of an evaluation. Without a name they are those of `eval` itself."""

    split: str | None = None
    """Split of every domain; None: `test`, or `base` in a domain that has no `test`."""
    attempts: int = 1
    """Attempts at each task."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    """-1: all tokens."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of `Tau2Config`."""


DEFAULTS = Preset()
PRESETS: Mapping[str, Preset] = {
    "card": Preset(
        attempts=4,
        temperature=0.8,
        top_p=1.0,
        top_k=20,
        options={
            "user_base_url": OPENAI,
            "user_model": "gpt-4.1-mini",
            "user_temperature": 0.7,
            "max_steps": 100,
            "protocol": "card",
        },
    ),
    "leaderboard": Preset(
        split="base",
        attempts=4,
        temperature=0.0,
        options={
            "user_base_url": OPENAI,
            "user_model": "gpt-4.1",
            "user_temperature": 0.0,
            "max_steps": 200,
            "max_errors": 10,
        },
    ),
}
