"""The format of a dump, field by field: what a rollout's files under `tau2_rollouts/` hold.

    tau2_rollouts/00000012/rollout.json.gz         `RolloutPart`: by the process that rolled out, before the training
    tau2_rollouts/00000012/trainer-00000.json.gz   `TrainerPart`: by a trainer, while it trains on the rollout

Each file is gzipped JSON, whole or absent. `rollout.json.gz` has a row for every group that the rollout settled and for
each of its samples, and the tokens of a few groups. Its numbers go by token: one for each token that the policy sampled
(`trained`, the ones of the loss mask), in order; no other token has any. A trainer adds its own log-probs of the same
tokens; `crc` says that they are the same.

The number in `format` says which version of these types a file was written by; whoever changes a field raises `FORMAT`.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from slime_tau2.record import CallGainRecord

FORMAT = 1
"""What this version writes."""

_STRICT = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)

Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Span = Annotated[list[Count], Field(min_length=2, max_length=2)]


@with_config(_STRICT)
class ServedRow(TypedDict):
    """Why a group's task came next."""

    by: str
    """`order`: the next of a shuffled epoch; `shares`: the next of a domain, by the shares of domains; `curriculum`:
    drawn by what can be learned; `returned`: the group came back and is served again; empty where another data source
    served it.
    """
    epoch: NotRequired[Count]
    """The pass over the tasks (over the domain's, by shares), from 0."""
    place: NotRequired[Count]
    """The place in that pass, from 0."""
    pool: NotRequired[str]
    """The curriculum's pool as it was drawn: `unseen`, `learnable`, `solved` or `hopeless`."""
    rate: NotRequired[Finite]
    """The curriculum's estimate of the success rate as it was drawn, in [0, 1]."""
    weight: NotRequired[Finite]
    """Its weight in that draw; weights are relative."""
    after: NotRequired[str]
    """Why the group had come back."""
    prefix: NotRequired[Count]
    """Messages of a recorded success behind which the group begins."""


@with_config(_STRICT)
class SampleRow(TypedDict):
    """A sample: one episode of a group, or a part of one."""

    sample: int | None
    """The sample's index, over the whole training."""
    segment: Count
    """Which of the samples of this index, from 0: an episode may train as several."""
    reward: Finite
    """tau2's reward."""
    training_reward: Finite | None
    """The reward that training counts: shaped, less the penalty of an overlong episode; null where it is not known."""
    advantage: Finite | None
    """Of the whole episode, before credit by turn or call; null where it did not train, or where another hook decides.
    """
    trains: bool
    """False: out of training, and out of its group's mean."""
    why_not: str
    """Why it does not train: its ending, or `overlong`; empty where it does."""
    termination: str
    """How the episode ended (docs/failures.md)."""
    detail: str
    """What ended it, where the termination alone does not say it."""
    partial: Finite
    """The strict partial score in [0, 1]."""
    components: dict[str, float]
    """The parts of the partial score by kind, each in [0, 1]."""
    turns: Count
    """The agent's turns."""
    calls: Count
    """The agent's tool calls."""
    tool_errors: Count
    """Error results of tools, the user's included."""
    malformed: Count
    """The agent's calls that could not be parsed."""
    response_tokens: Count
    """Tokens behind the prompt."""
    trained_tokens: Count
    """Of these, sampled by the policy."""
    log_prob: Finite | None
    """Mean log-prob of those at the sampler, in nats; null without any."""
    policy_s: Finite
    """Seconds that waited for the policy."""
    user_s: Finite
    """Seconds that waited for the user."""
    weights: list[str]
    """Versions of the weights that sampled it, each once, in order."""


@with_config(_STRICT)
class GroupRow(TypedDict):
    """A group: the episodes of one task that are compared with each other."""

    group: int | None
    """The group's index, over the whole training."""
    domain: str
    """The domain, or the name of the task set."""
    task: str
    """The task's id there."""
    served: ServedRow
    """Why this task came next."""
    verdict: str
    """What the dynamic filter said: `kept`, or why it dropped the group (`all_0.0`: all training rewards are 0.0;
    `infrastructure`); empty where it was not asked.
    """
    fate: str
    """What became of it: `trained`, `dropped`, or `returned`, to be served again."""
    why: str
    """Why that, in words, where the verdict does not say it."""
    samples: list[SampleRow]
    """Its samples; [] where the group was not finished."""


@with_config(_STRICT)
class TurnRow(TypedDict):
    """A turn of the agent that has tokens: one per span of `trained`."""

    gain: Finite | None
    """What it added to the strict partial score; null where it is not known."""
    calls: list[CallGainRecord]
    """Its calls, by response token, with the gain and the proven fault of each."""


@with_config(_STRICT)
class SampleTokens(TypedDict):
    """The tokens of a sample. Below, T is the number of tokens that the policy sampled."""

    sample: int | None
    """The sample's index."""
    segment: Count
    """Which of the samples of this index, as in `SampleRow`."""
    prompt: Count
    """Which of the part's `prompts` it begins with."""
    ids: str
    """The ids behind the prompt, as int32 (`arrays`)."""
    crc: int
    """CRC-32 of all its ids, the prompt's included, as int32."""
    trained: list[Span]
    """[start, end) of each turn in `ids`."""
    log_probs: str
    """Log-probs at the sampler, in nats: float32 of [T]."""
    advantages: str | None
    """Advantages: float32 of [T]; null where it does not train, or where another hook decides."""
    turns: list[TurnRow]
    """Its turns."""


@with_config(_STRICT)
class RolloutPart(TypedDict):
    """`rollout.json.gz`."""

    format: int
    """The format of the file (`slime_tau2.dumps.format.FORMAT`)."""
    writer: str
    """What wrote it: name and version."""
    rollout: Count
    """The rollout's id; a training's first is 0."""
    written: Finite
    """When, in seconds since 1970."""
    seconds: Finite
    """How long the rollout took."""
    options: dict[str, Any]
    """The tau2 options that made rewards and advantages of scores."""
    figures: dict[str, Finite]
    """What was logged of the rollout (docs/hooks.md): numbers by key."""
    waiting: Count
    """Groups that were served and not settled by then."""
    groups: list[GroupRow]
    """Every group that the rollout settled, in the order in which they were served."""
    prompts: list[str]
    """The prompts of `samples`, each once: ids as int32."""
    pieces: dict[str, str]
    """The text of each id in the file, alone; an id that holds a part of a character has no text of its own."""
    samples: list[SampleTokens]
    """Tokens of the samples of a few groups that train."""
    left_out: Count
    """Groups whose tokens were asked for and did not fit (`hooks.rollout_dump.MAX_BYTES`)."""


@with_config(_STRICT)
class TrainerSample(TypedDict):
    """What a trainer says of a sample's tokens; `sample` and `crc` together name them."""

    sample: int | None
    """The sample's index."""
    crc: int
    """CRC-32 of all its ids, as in `SampleTokens`."""
    at: str | None
    """With context parallelism: of which of the T tokens its numbers are, as int32; null: of all of them."""
    log_probs: str | None
    """Log-probs at the trainer before its step, in nats: float32 of [T], or of `at`; null where it scored none
    beforehand.
    """
    advantages: str | None
    """The advantages that it trains on: likewise."""


@with_config(_STRICT)
class TrainerPart(TypedDict):
    """`trainer-RANK.json.gz`."""

    format: int
    """The format of the file."""
    rollout: Count
    """The rollout's id."""
    samples: list[TrainerSample]
    """Those of the rollout's `samples` that this trainer had."""


CLASSES = (RolloutPart, GroupRow, ServedRow, SampleRow, SampleTokens, TurnRow, TrainerPart, TrainerSample)


def fields(kind: type) -> dict[str, str]:
    """{field of a class: what it is}."""
    properties: dict[str, Any] = TypeAdapter(kind).json_schema()["properties"]
    return {name: " ".join(schema.get("description", "").split()) for name, schema in properties.items()}
