"""Typed options of the plugin, one docstring per field.

Under slime they come from `--custom-config-path` (YAML keys with the prefix `tau2_`, which slime sets on `args`);
elsewhere from `TAU2_*` environment variables and the command line. An unknown `tau2_` key is an error that names the
nearest known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from slime_tau2 import options, plugins
from slime_tau2.hosts import Access, Host
from slime_tau2.limits import CHAT_RETRIES, Limits, Retries
from slime_tau2.tasksets import openings

PREFIX = "tau2_"
USERS = ("scripted", "llm", "gold", "plain")
SHAPINGS = ("gated", "card", "none")
Switch = Literal["auto", "on", "off"]
_LIMITS, _POLICY_RETRIES = Limits(), Retries()
ENVIRONMENT = "TAU2_* in the environment"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NO_KEY = "name the environment variable that holds the key, never the key itself"


class Tau2Config(BaseModel):
    """Everything that the hooks and the episode driver can be told. The keys are flat, as slime needs them."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    # Core: which episodes are played

    plugins: tuple[str, ...] = ()
    """Modules to import first: those that register domains of your own (docs/extending.md)."""
    domains: tuple[str, ...] = ("helpdesk",)
    """Domains and task sets (directories: ./sets/NAME) whose tasks the data source serves."""
    domain_weights: dict[str, float] = {}
    """{domain or task set, by name: its share of the groups that are drawn}. Those without a share divide the rest by
    their numbers of tasks; without any share, every task is drawn equally often.
    """
    task_sets: tuple[str, ...] = ()
    """Further task sets (directories) that evaluation data, records or rows may name."""
    unverified: bool = False
    """Train on task sets that were never verified, and on tasks that did not pass (`slime-tau2 verify-tasks`)."""
    split: str = "train"
    """Split of those domains: `train`, tau2's own without a fifth, `val`, by which a checkpoint is chosen; `train+val`;
    `extra`.
    """
    i_know: bool = False
    """Let a training look at test tasks, and evaluate on what it trains on: without it both are refused."""
    seed: int = 0
    """Seed of the run: task order, users, and sampling where `seeded_sampling` is on."""

    # Limits: how far an episode may go

    max_steps: int = Field(_LIMITS.max_steps, gt=0)
    """tau2's limit on hops per conversation (the leaderboard's 200)."""
    max_errors: int = Field(_LIMITS.max_errors, gt=0)
    """tau2's limit on error results per conversation, the user's included."""
    max_turn_tokens: int = Field(2048, gt=0)
    """Longest single agent turn, in tokens."""
    max_context_tokens: int = Field(32768, gt=0)
    """Longest prompt plus response of an episode, in tokens."""
    episode_timeout_s: float = Field(_LIMITS.deadline_s, gt=0)
    """Deadline of a whole episode, in seconds."""
    episode_retries: int = Field(1, ge=0)
    """Further tries of an episode that infrastructure ended, before its sample is dropped."""

    workers: int = Field(0, ge=0)
    """Ray actors that play the episodes, a CPU each, spread over the nodes; 0: the rollout's own process plays them."""

    # Agent: how the policy is asked

    agent: str | None = None
    """`module:factory` of an agent of your own (docs/extending.md); None is ours, which asks the policy once a turn."""
    protocol: Literal["native", "card"] = "native"
    """How the agent speaks: Qwen's own tool format, or the model card's one action per turn with `respond` and `done`.
    """
    thinking: Switch = "auto"
    """Whether the policy thinks: `auto` leaves that to its server and template; `on` and `off` switch a hybrid model.
    """
    max_thinking_tokens: int = Field(0, ge=0)
    """Longest thought at the beginning of an agent turn, in tokens; 0: only the turn's own bound holds."""
    cut_thoughts: Literal["close", "length"] = "close"
    """What becomes of a turn whose thought is longer: `close` ends the thought in Qwen's words, untrained, and the turn
    goes on; `length` ends the episode.
    """
    train_thinking: bool = True
    """Train on the tokens of thoughts, in SFT too; off masks them, and what was said behind them trains."""
    stop_at_tool_call: bool = False
    """Stop sampling at `</tool_call>`; the closing `<|im_end|>` is then appended untrained. The card's protocol always
    does.
    """
    agent_prompt: Path | None = None
    """Template file of the agent's system prompt with `{policy}`, and `{tools}` for the card's protocol; None takes
    tau2's own prompt, or this package's for the card's protocol.
    """
    retrieval: str = "bm25"
    """How the agent searches banking_knowledge's documents, on tau2 v1.0.x: one of its `--retrieval-config`; this one
    needs no key.
    """
    seeded_sampling: bool = False
    """Send a `sampling_seed` with each request. The local engine honours it; SGLang only in deterministic mode."""
    policy_concurrency: int = Field(256, gt=0)
    """Requests to the policy server at a time."""
    policy_timeout_s: float = Field(_POLICY_RETRIES.timeout_s, gt=0)
    """Longest wait for one policy turn, in seconds."""
    policy_retries: int = Field(_POLICY_RETRIES.count, ge=0)
    """Further tries after a failed policy request."""
    policy_key_env: str | None = None
    """Environment variable with the key of the policy's server in `eval` and `collect` (SGLang's --api-key too); None
    as `user_key_env`.
    """

    # User: who speaks for the customer, in training and in evaluation

    user: str = "llm"
    """Who speaks for the user: `llm`, a model; `scripted`, the domain's own (helpdesk has one); the test users `gold`
    and `plain`; or `module:Class`.
    """
    user_base_url: str = "http://127.0.0.1:30001/v1"
    """OpenAI-compatible server of the user model; under slime also `slime:NAME`, a model of its `--sglang-config`."""
    user_model: str = "Qwen/Qwen3-4B-Instruct-2507"
    """Name of the user model at its server."""
    user_temperature: float = Field(0.7, ge=0)
    """Sampling temperature of the user model."""
    user_thinking: Switch = "auto"
    """Whether the user model thinks, as `thinking` says of the policy; a hybrid Qwen3-4B wants `off`: it thinks unless
    told not to.
    """
    user_key_env: str | None = None
    """Environment variable that holds the key of the user model's server, never the key. None: OPENAI_API_KEY at
    https://api.openai.com, elsewhere no key.
    """
    user_concurrency: int = Field(128, gt=0)
    """Requests to the user model at a time."""
    user_timeout_s: float = Field(CHAT_RETRIES.timeout_s, gt=0)
    """Longest wait for one reply of the user model, in seconds."""
    user_retries: int = Field(CHAT_RETRIES.count, ge=0)
    """Further tries after a failed, empty or malformed reply of the user model."""
    eval_user_model: str | None = None
    """Another user model for evaluation (slime's eval rollouts); None is the training user."""
    eval_user_base_url: str | None = None
    """Server of that other user model; None is `user_base_url`."""
    eval_user_key_env: str | None = None
    """Environment variable that holds the key of that other server; None is `user_key_env` where the server is the
    same, else as there.
    """

    # Judge: how an episode is scored

    retail_basis: Literal["communicate", "no_judge", "judge"] = "communicate"
    """Reward basis of retail on tau2 v1.0.x, where 40 of 114 tasks (and one of banking_knowledge's 97) otherwise need a
    judge.
    """
    judge_base_url: str = "https://api.openai.com/v1"
    """OpenAI-compatible server of the judge, which `retail_basis: judge` and some tasks of other domains need."""
    judge_model: str = "gpt-4.1-2025-04-14"
    """Name of the judge's model at its server; tau2 v1.0.x's own by default."""
    judge_key_env: str | None = None
    """Environment variable that holds the key of the judge's server; None as `user_key_env`."""
    official_check: int = Field(0, ge=0)
    """Processes that grade every scored episode again with tau2's own evaluator; 0 is off."""

    # Training: what becomes of scores

    shaping: str = "gated"
    """How partial scores enter the reward: `gated`, ordering failures only; `card`, its author's formula; `none`; or
    `module:function`.
    """
    alpha: float = Field(0.25, ge=0)
    """Weight of the partial score."""
    advantage: Literal["mean", "std"] = "mean"
    """Group normalisation: subtract the mean, or also divide by the standard deviation."""
    credit: Literal["episode", "turn", "turn_discounted", "call"] = "episode"
    """What an advantage is spread over: the episode alike; its turns by what each (and those after it) added to the
    partial score; or its turns, and each turn's calls by what each did.
    """
    credit_discount: float = Field(0.8, ge=0, le=1)
    """Discount per turn of the gains that follow it, for `credit: turn_discounted`."""
    overlong: Literal["score", "mask", "penalty"] = "score"
    """What becomes of episodes that ran out of tokens or steps in training."""
    overlong_penalty: float = Field(0.25, ge=0)
    """What `overlong: penalty` takes from their training reward."""
    curriculum: bool = False
    """Sample tasks by what can be learned from them instead of in shuffled epochs."""
    prefix_starts: Path | None = None
    """attempts.jsonl with successes on train tasks: with `curriculum`, every other group of a hopeless task begins
    within one of them.
    """
    log_samples: int = Field(4, ge=0)
    """Whole conversations per rollout that W&B gets as a table."""
    dump: int = Field(2, ge=0)
    """Groups per rollout whose tokens go into the dump that `slime-tau2 rollouts` shows, under `--dump-details` or
    `--save`; 0 writes no dump.
    """

    # Advanced: hosts that want something of their own

    hosts: dict[str, Host] = {}
    """What hosts want, by their names: `client`, `headers_env`, `token`, `api_version` (docs/evaluation.md, hosted
    models).
    """
    plain_http: tuple[str, ...] = ()
    """Public hosts, or networks (130.60.0.0/16), to which conversations may go over plain http, readable to all; never
    keys.
    """

    @field_validator("domains")
    @classmethod
    def _at_least_one(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not any(value):
            raise ValueError("name at least one domain")
        return value

    @field_validator("domain_weights")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        for name, share in value.items():
            if not 0 < share <= 1:
                raise ValueError(f"{name}: a share lies above 0 and is at most 1, not {share}")
        total = sum(value.values())
        if total > 1 + 1e-9:
            raise ValueError(f"the shares sum to {total:g}, and to 1 at most")
        return value

    @field_validator("user", "shaping")
    @classmethod
    def _ours_or_by_path(cls, value: str, info: ValidationInfo) -> str:
        known = USERS if info.field_name == "user" else SHAPINGS
        if value not in known and not plugins.named(value):
            raise ValueError(f"there are {', '.join(known)}, and module:name for your own")
        return value

    @field_validator("agent")
    @classmethod
    def _by_path(cls, value: str | None) -> str | None:
        if value is not None and not plugins.named(value):
            raise ValueError("name module:factory")
        return value

    @field_validator("thinking", "user_thinking", mode="before")
    @classmethod
    def _a_word(cls, value: Any) -> Any:
        if isinstance(value, bool):  # YAML takes on and off for booleans
            return "on" if value else "off"
        return value

    @field_validator("user_key_env", "eval_user_key_env", "policy_key_env", "judge_key_env")
    @classmethod
    def _a_variables_name(cls, value: str | None) -> str | None:
        if value is not None and not VARIABLE.fullmatch(value):
            raise ValueError(NO_KEY)
        return value

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> Tau2Config:
        """Build from plain keys, and import the plugins that they name.

        Raises:
            ConfigError: an unknown key, a bad value, a module or a task set that is not there; names it, the source and
                the fix.
        """
        return cls.resolve((source, values))

    @classmethod
    def resolve(cls, *sources: options.Source) -> Tau2Config:
        """Build from several sources, of which the last that has a key wins; import the plugins, and open the task
        sets that the options name. An error names the source of its key.
        """
        config = cls.read(*sources)
        config.open()
        return config

    def open(self) -> None:
        """Import the plugins and open the task sets that the options name: once in each process."""
        plugins.import_all(self.plugins)
        openings.names((*self.domains, *self.task_sets))

    @classmethod
    def read(cls, *sources: options.Source) -> Tau2Config:
        """As `resolve`, and no plugin is imported: for whoever plays nothing."""
        return options.build(cls, sources, PREFIX)

    @classmethod
    def from_args(cls, args: object) -> Tau2Config:
        """From slime's args, an object of whatever class: TAU2_* variables first, then every attribute that starts with
        `tau2_`.
        """
        keys = [name for name in dir(args) if name.startswith(PREFIX) and hasattr(args, name)]
        options_of_slime = {name.removeprefix(PREFIX): getattr(args, name) for name in keys}
        return cls.resolve((ENVIRONMENT, from_environment()), ("--custom-config-path", options_of_slime))

    @property
    def limits(self) -> Limits:
        """How long an episode may go on."""
        return Limits(max_steps=self.max_steps, max_errors=self.max_errors, deadline_s=self.episode_timeout_s)

    @property
    def policy_client_retries(self) -> Retries:
        """How often a request to the policy is tried."""
        return Retries(count=self.policy_retries, timeout_s=self.policy_timeout_s)

    @property
    def user_client_retries(self) -> Retries:
        """How often a request to the user model is tried."""
        return Retries(count=self.user_retries, timeout_s=self.user_timeout_s)

    @property
    def judge_client_retries(self) -> Retries:
        """How often a request to the judge is tried: as one to the user model."""
        return self.user_client_retries

    @property
    def access(self) -> Access:
        """What is said of hosts."""
        return Access({name.lower(): host for name, host in self.hosts.items()}, self.plain_http)

    def resolved(self) -> str:
        """Every option and its value, for the log."""
        return "\n".join(f"  {PREFIX}{k} = {v}" for k, v in self.model_dump(mode="json").items())


def from_environment() -> dict[str, Any]:
    """Options set as TAU2_<FIELD>; other TAU2_ variables (tau2's own TAU2_DATA_DIR among them) are left alone."""
    given: dict[str, Any] = {}
    for key in Tau2Config.model_fields:
        variable = f"TAU2_{key.upper()}"
        if variable in os.environ:
            given[key] = options.from_variable(Tau2Config, key, os.environ[variable], variable)
    return given
