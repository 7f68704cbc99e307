"""How to evaluate, in one word: the settings under which others published, beside which a score can be put.

`card` is the model card's, its one-action-a-turn protocol included (`--set protocol=native` measures the same under
Qwen's own), `leaderboard` tau2's own. What is given on the command line wins over a preset.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slime_tau2.errors import ConfigError

OPENAI = "user_base_url=https://api.openai.com/v1"
DEFAULTS: dict[str, Any] = {"split": "test", "attempts": 1, "temperature": 1.0, "top_p": 1.0, "top_k": -1}
OPTIONS: dict[str, Any] = {"seeded_sampling": True, "retail_basis": "judge"}
"""Options of the package that have another default in `eval`; the user, too, is by default what suits the policy."""
_TRAINING = "it is an option of training"
NOT_OF_AN_EVALUATION = {
    "split": "use --split",
    "seed": "use --seed",
    "domains": "use --domain",
    "i_know": _TRAINING,
    "curriculum": _TRAINING,
    "prefix_starts": _TRAINING,
    "shaping": _TRAINING,
    "alpha": _TRAINING,
    "advantage": _TRAINING,
    "credit": _TRAINING,
    "credit_discount": _TRAINING,
    "overlong": _TRAINING,
    "overlong_penalty": _TRAINING,
    "log_samples": _TRAINING,
    "episode_retries": "the same command tries attempts again that have no score",
}
"""{option of the package that would be given in vain: what to do instead}"""
PRESETS: dict[str, dict[str, Any]] = {
    "card": {
        "attempts": 4,
        "temperature": 0.8,
        "top_p": 1.0,
        "top_k": 20,
        "options": [OPENAI, "user_model=gpt-4.1-mini", "user_temperature=0.7", "max_steps=100", "protocol=card"],
    },
    "leaderboard": {
        "split": "base",
        "attempts": 4,
        "temperature": 0.0,
        "options": [OPENAI, "user_model=gpt-4.1", "user_temperature=0.0", "max_steps=200", "max_errors=10"],
    },
}


@dataclass(frozen=True)
class EvalRequest:
    """The command line of `eval`; None: what the preset, and then the default says.

    `policy` is a script's name, a model directory, or the URL of a server: SGLang's, or with /v1 at its end an
    OpenAI-compatible one, of which `model` is then a model.
    """

    output: Path
    domain: str
    policy: str
    split: str | None = None
    attempts: int | None = None
    tasks: list[str] | None = None
    user: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tokenizer: Path | None = None
    concurrency: int = 64
    seed: int = 0
    options: tuple[str, ...] = ()
    model: str | None = None
    preset: str | None = None

    @property
    def domains(self) -> list[str]:
        """`airline,retail` as a list. Raises ConfigError for none, or one twice."""
        named = [d.strip() for d in self.domain.split(",")]
        if not all(named) or len(set(named)) < len(named):
            raise ConfigError(
                f"--domain {self.domain}: name each domain once, separated by commas: airline,retail,telecom"
            )
        return named

    def resolved(self) -> Plan:
        """
        Raises:
            ConfigError: a preset that does not exist, sampling that is none, or an option that an evaluation does not
                read.
        """
        for assignment in self.options:
            key = assignment.partition("=")[0]
            if key in NOT_OF_AN_EVALUATION:
                raise ConfigError(f"--set {assignment}: an evaluation does not read it; {NOT_OF_AN_EVALUATION[key]}")
        if self.preset is not None and self.preset not in PRESETS:
            raise ConfigError(f"--preset {self.preset}: there are {', '.join(PRESETS)}")
        chosen = PRESETS.get(self.preset or "", {})
        values = {
            k: chosen.get(k, default) if getattr(self, k) is None else getattr(self, k)
            for k, default in DEFAULTS.items()
        }
        if (
            not math.isfinite(values["temperature"])
            or not 0 < values["top_p"] <= 1
            or not (values["top_k"] == -1 or values["top_k"] >= 1)
        ):
            told = ", ".join(f"{k} {values[k]}" for k in ("temperature", "top_p", "top_k"))
            raise ConfigError(
                f"{told}: --temperature is a number, --top-p above 0 and at most 1, --top-k -1 (all tokens) or at "
                "least 1"
            )
        asked = self.split is not None or "split" in chosen
        return Plan(replace(self, options=(*chosen.get("options", ()), *self.options)), **values, split_asked=asked)


@dataclass(frozen=True)
class Plan:
    """A request with every open question answered."""

    request: EvalRequest
    split: str
    attempts: int
    temperature: float
    top_p: float
    top_k: int
    split_asked: bool = False

    def on(self, splits: Collection[str]) -> Plan:
        """The plan on a domain with these splits: where nobody asked for a split and there is no `test`, it
        is `base`.
        """
        return self if self.split_asked or self.split in splits or "base" not in splits else replace(self, split="base")
