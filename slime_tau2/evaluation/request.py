"""What an evaluation is asked to do: the command line of `eval`, and the same with every open question answered."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slime_tau2 import traits
from slime_tau2.config import ENVIRONMENT, Tau2Config, from_environment
from slime_tau2.episode.scripts import SCRIPTS
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import presets
from slime_tau2.evaluation.presets import DEFAULTS, PRESETS
from slime_tau2.tasksets import openings

_TRAINING = "it is an option of training"
NOT_OF_AN_EVALUATION = {
    "split": "use --split",
    "workers": "use --workers",
    "seed": "use --seed",
    "domains": "use --domain",
    "task_sets": "use --domain",
    "domain_weights": _TRAINING,
    "unverified": _TRAINING,
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
    "dump": _TRAINING,
    "episode_retries": "the same command tries attempts again that have no score",
}
"""{option that an evaluation does not read: what to do instead}"""


@dataclass(frozen=True, kw_only=True)
class EvalRequest:
    """The command line of `eval`. None: what the preset says, and where it is silent the default."""

    output: Path
    """Directory of the run; the same request resumes it."""
    domain: str
    """A domain, the path of a task set, or several separated by commas."""
    policy: str
    """Who is evaluated: a script's name, a model directory, or the URL of a server, SGLang's or, with /v1 at its end,
    an OpenAI-compatible one.
    """
    model: str | None = None
    """Model of an OpenAI-compatible server."""
    tokenizer: Path | None = None
    """Tokenizer directory of a server that is asked by tokens."""
    preset: str | None = None
    """One of `PRESETS`."""
    split: str | None = None
    """Split of every domain."""
    tasks: list[str] | None = None
    """Ids of the tasks, of one domain; None: the whole split."""
    attempts: int | None = None
    """Attempts at each task."""
    user: str | None = None
    """Who speaks for the user: the option `user`."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """-1: all tokens."""
    concurrency: int = 64
    """Attempts under way at a time."""
    workers: int = 0
    """Processes that play them; 0: this one."""
    seed: int = 0
    """Seed of the run: sampling and users derive from it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """`--set`: options of `Tau2Config`, by name."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Options of `Tau2Config` that have another default in this command than in `eval`."""

    @property
    def domains(self) -> list[str]:
        """`airline,./sets/more` as a list of names; opens the task sets.

        Raises:
            ConfigError: a domain without a name, one that is named twice, or a task set that cannot be opened.
        """
        names = [name.strip() for name in self.domain.split(",")]
        if not all(names) or len(set(names)) < len(names):
            raise ConfigError(
                f"--domain {self.domain}: name each domain once, separated by commas: airline,retail,telecom"
            )
        return openings.names(names)

    @property
    def is_script(self) -> bool:
        """Whether the policy is a script, which samples nothing."""
        return self.policy in SCRIPTS

    def resolved(self) -> ResolvedRequest:
        """The request with every open question answered.

        Raises:
            ConfigError: a preset that does not exist, sampling that is none or that the policy has no use for, or an
                option that an evaluation does not read.
        """
        self._check()
        preset = DEFAULTS if self.preset is None else PRESETS[self.preset]
        resolved = ResolvedRequest(
            request=self,
            split=self.split or preset.split,
            attempts=preset.attempts if self.attempts is None else self.attempts,
            temperature=preset.temperature if self.temperature is None else self.temperature,
            top_p=preset.top_p if self.top_p is None else self.top_p,
            top_k=preset.top_k if self.top_k is None else self.top_k,
            preset_options=preset.options,
        )
        resolved.check_sampling()
        return resolved

    def _check(self) -> None:
        for key in self.options:
            if key in NOT_OF_AN_EVALUATION:
                raise ConfigError(f"--set {key}: an evaluation does not read it; {NOT_OF_AN_EVALUATION[key]}")
        if self.preset is not None and self.preset not in PRESETS:
            raise ConfigError(f"--preset {self.preset}: there are {', '.join(PRESETS)}")
        if self.is_script:
            sampling = {
                "--temperature": self.temperature,
                "--top-p": self.top_p,
                "--top-k": self.top_k,
                "--tokenizer": self.tokenizer,
                "--model": self.model,
            }
            useless = [option for option, value in sampling.items() if value is not None]
            if useless:
                raise ConfigError(f"{useless[0]}: --policy {self.policy} is a script and samples nothing; leave it out")


@dataclass(frozen=True, kw_only=True)
class ResolvedRequest:
    """A request with every open question answered."""

    request: EvalRequest
    split: str | None
    """The split that was asked for; None: nobody asked (`split_among`)."""
    attempts: int
    temperature: float
    top_p: float
    top_k: int
    preset_options: Mapping[str, Any] = field(default_factory=dict)
    """Options that the preset sets and `--set` may change."""

    @property
    def asked_split(self) -> str:
        """The split's name before a domain is asked whether it has one."""
        return self.split or "test"

    def split_among(self, splits: Collection[str]) -> str:
        """The split of a domain that has these; `base` where nobody asked for one and there is no `test`."""
        if self.split is not None:
            return self.split
        return "base" if "test" not in splits and "base" in splits else "test"

    @property
    def sampling(self) -> dict[str, float | int]:
        """The sampling parameters, by SGLang's names."""
        return {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}

    def config(self) -> Tau2Config:
        """The package's options: eval's defaults, the environment, the preset, `--user`, `--set`; the last wins.

        Raises:
            ConfigError: a bad value (names its source), or a user that these domains do not have.
        """
        request = self.request
        given = (
            (ENVIRONMENT, from_environment()),
            (f"--preset {request.preset}", self.preset_options),
            ("--user", {} if request.user is None else {"user": request.user}),
            ("--set", request.options),
        )
        Tau2Config.resolve(*given)  # imports the plugins: the default user depends on the traits of their domains
        defaults = {**presets.OPTIONS, **request.defaults, "user": default_user(request)}
        config = Tau2Config.resolve(("the defaults of eval", defaults), *given)
        if config.user == "scripted" and not all(traits.of(d).scripted_user for d in request.domains):
            only = traits.domains_with(lambda t: t.scripted_user)
            raise ConfigError(
                f"--user scripted exists for {only} only, not {', '.join(request.domains)}; use llm, gold or plain"
            )
        return config

    def check_sampling(self) -> None:
        """Raises ConfigError: sampling parameters out of range."""
        cuts_are_sane = 0 < self.top_p <= 1 and (self.top_k == -1 or self.top_k >= 1)
        if not math.isfinite(self.temperature) or not cuts_are_sane:
            values = ", ".join(f"{name} {value}" for name, value in self.sampling.items())
            raise ConfigError(
                f"{values}: --temperature is a number, --top-p above 0 and at most 1, --top-k -1 (all tokens) or at "
                "least 1"
            )


def default_user(request: EvalRequest) -> str:
    """The user that suits a policy: scripts are for a scripted one, a domain may have its own, tau2's is a model."""
    if request.is_script:
        return "gold"
    return "scripted" if all(traits.of(d).scripted_user for d in request.domains) else "llm"
