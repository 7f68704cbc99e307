"""The record of an attempt: what one line of `attempts.jsonl` holds, field by field.

`Episode.record()` makes the part that an episode knows, the runner adds the run's part, `data.records` checks each line
against these types as it reads it. The number in `format` says which version of them a line was written by; whoever
changes a field raises `FORMAT` and tells `data.records` how the format before it is read.

The types say what readers may rely on. Messages and `reward_info` are tau2's own JSON, which holds more than is named
here and is kept as it is.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, SkipValidation, TypeAdapter, with_config
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from slime_tau2.terminations import Disposition

FORMAT = 3
"""What this version writes. Format 1 (slime_tau2 0.1 and 0.2) had no number, and `disposition` under the name
`policy`. Format 2 (0.3) had no `by_call` in a turn.
"""

_STRICT = ConfigDict(strict=True, extra="ignore", use_attribute_docstrings=True)
"""Further fields may be there; no number becomes a text, nor a text a number."""

Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _a_disposition(value: str) -> str:
    known = [disposition.value for disposition in Disposition]
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return value


DispositionName = Annotated[str, AfterValidator(_a_disposition)]
"""The value of a `Disposition`."""


@with_config(_STRICT)
class CallRecord(TypedDict):
    """A tool call, of the agent or of the user."""

    id: NotRequired[str]
    """By which its result names it."""
    name: str
    """The tool."""
    arguments: dict[str, Any]
    """What it was called with."""
    requestor: NotRequired[str]
    """`assistant` or `user`."""
    compare_args: NotRequired[list[str] | None]
    """In a call of the solution: the arguments that count; all where it is not said."""


@with_config(_STRICT)
class MessageRecord(TypedDict):
    """A message as tau2 writes it, without what is None."""

    role: str
    """`assistant`, `user`, `tool` or `system`."""
    content: NotRequired[str | None]
    """The words; a tool's result."""
    tool_calls: NotRequired[list[CallRecord] | None]
    """The calls of an agent's or a user's message."""
    id: NotRequired[str]
    """The call that a tool's message answers."""
    requestor: NotRequired[str]
    """Who made the call that a tool's message answers."""
    error: NotRequired[bool]
    """Whether a tool's message is an error."""
    timestamp: NotRequired[str | None]
    """When it was said (ISO 8601)."""


@with_config(_STRICT)
class CallGainRecord(TypedDict):
    """What one call of the agent's did; the fields are those of `types.CallGain`."""

    start: int
    """Where its tokens begin in the response."""
    end: int
    """Where they end; equal to `start` without tokens."""
    gain: float
    """What the call added to the strict partial score by the time that its result was there."""
    wrong: str
    """What a check found wrong with it (`episode.call_watch` lists the words); empty if nothing is proven."""


@with_config(_STRICT)
class TurnRecord(TypedDict):
    """A turn of the agent; the fields are those of `types.Turn`."""

    index: int
    """Which turn, from 0."""
    segment: NotRequired[int]
    """Which of the episode's segments holds its tokens; 0 where it is not said."""
    start: int
    """Where its tokens begin in the response, which is its segment's."""
    end: int
    """Where they end; equal to `start` without tokens."""
    thought: NotRequired[int]
    """Where the thoughts at its beginning end; `start` without any."""
    text: str
    """The text that was sampled."""
    calls: int
    """Tool calls."""
    call_errors: int
    """Calls that tau2 answered with an error."""
    malformed: int
    """Calls that could not be parsed."""
    finish_reason: str
    """Why sampling stopped: `stop`, `length` or `abort`."""
    sent: bool
    """False where the turn ended the episode before tau2 read it."""
    partial: float
    """The strict partial score once everything that followed from the turn has happened."""
    gain: float
    """What the turn added to it."""
    by_call: list[CallGainRecord]
    """What each call that tau2 made added to it, in order; empty in a record of format 1 or 2."""


@with_config(_STRICT)
class DatabaseCheck(TypedDict):
    """tau2's comparison of the databases at the end."""

    db_match: bool
    """Whether they are as the solution leaves them."""


@with_config(_STRICT)
class ActionCheck(TypedDict):
    """tau2's check of one call of the solution."""

    action: CallRecord
    """The call."""
    action_match: NotRequired[bool]
    """Whether it was made."""


@with_config(_STRICT)
class CommunicateCheck(TypedDict):
    """tau2's check of something that the user must be told."""

    info: str
    """What."""
    met: bool
    """Whether it was said."""


@with_config(_STRICT)
class Assertion(TypedDict):
    """An assertion on the environment: a function and what it should return."""

    func_name: str
    """The function."""
    arguments: NotRequired[dict[str, Any]]
    """What it is called with."""
    assert_value: NotRequired[bool]
    """What it should return; true where it is not said."""


@with_config(_STRICT)
class AssertionCheck(TypedDict):
    """tau2's check of an assertion on the environment."""

    env_assertion: Assertion
    """The assertion."""
    met: bool
    """Whether it holds."""


@with_config(_STRICT)
class JudgedCheck(TypedDict):
    """The judge's verdict on an assertion in natural language."""

    nl_assertion: NotRequired[str]
    """The assertion."""
    met: bool
    """Whether the judge found it met."""


@with_config(_STRICT)
class RewardInfoRecord(TypedDict):
    """tau2's RewardInfo: the reward and each check, those that the reward does not count too."""

    reward: float
    """tau2's reward."""
    reward_basis: NotRequired[list[str] | None]
    """The kinds of check that the reward is the product of."""
    db_check: NotRequired[DatabaseCheck | None]
    """Databases."""
    action_checks: NotRequired[list[ActionCheck] | None]
    """Calls of the solution."""
    communicate_checks: NotRequired[list[CommunicateCheck] | None]
    """What must be said."""
    env_assertions: NotRequired[list[AssertionCheck] | None]
    """Assertions on the environment."""
    nl_assertions: NotRequired[list[JudgedCheck] | None]
    """The judge's verdicts."""


@with_config(_STRICT)
class PlaceRecord(TypedDict):
    """A place of a database that is not as the solution leaves it."""

    whose: str
    """`agent` or `user`: whose database."""
    table: str
    """The table."""
    key: str
    """The row's key; empty where the database has no rows there."""
    path: str
    """Where in the row: `flights[0].date`; empty where all of the row is there on one side only."""
    found: str | None
    """What is there, as JSON of at most 200 characters; null: nothing."""
    wanted: str | None
    """What the solution leaves there, likewise."""


@with_config(_STRICT)
class DatabaseDifference(TypedDict):
    """How the databases at the end differ from those that the solution leaves (`episode.end_state`)."""

    total: Count
    """Places that differ."""
    places: list[PlaceRecord]
    """The first 40 of them, by database, table and key."""


@with_config(_STRICT)
class TokenCounts(TypedDict):
    """What one model's servers reported of an episode's requests."""

    requests: Count
    """Requests, those that a retry replaced too."""
    unreported: NotRequired[Count]
    """Requests among them whose tokens are not known."""
    prompt: Count
    """Tokens of the prompts."""
    cached: Count
    """Those of them that the server had in its prefix cache."""
    completion: Count
    """Tokens sampled, thoughts included."""


@with_config(_STRICT)
class SegmentRecord(TypedDict):
    """How many tokens a segment of an episode holds: a prompt as the server saw it, and what followed behind it."""

    prompt: Count
    """Tokens of its prompt."""
    kept: Count
    """Those of them, from the first on, with which the segment before it began alike: what a prefix cache can keep."""
    response: Count
    """Tokens behind the prompt."""
    sampled: Count
    """Those of them that the policy sampled."""


@with_config(_STRICT)
class ThoughtRecord(TypedDict):
    """What a model thought before one of its messages."""

    role: str
    """`policy`, `user` or `judge`."""
    message: int
    """Index of the message that the thought led to."""
    text: str
    """The thought."""


@with_config(_STRICT)
class TaskRecord(TypedDict):
    """Which task an episode was about."""

    domain: str
    """The domain, or the name of the task set."""
    task_id: str
    """The task's id there."""


@with_config(_STRICT)
class Provenance(TypedDict):
    """What a score depends on beside the conversation."""

    tau2: str
    """The tau2 that ran and scored the attempt: vintage and version."""
    tasks_sha256: str
    """SHA-256 of the domain's task file."""
    reward_basis: list[str]
    """The kinds of check that the reward was the product of."""
    task_set: NotRequired[str]
    """Name of the task set; absent for tau2's own tasks."""
    task_set_sha256: NotRequired[str]
    """SHA-256 of the task set's tasks, databases and splits."""
    database_sha256: NotRequired[str]
    """SHA-256 of the database that the task was over, where a task set says it."""


@with_config(_STRICT)
class EpisodeRecord(TaskRecord, Provenance):
    """What an episode knows of itself, as JSON, without its token ids."""

    format: int
    """The format of the record (`slime_tau2.record.FORMAT`)."""
    seed: int | None
    """Seed of user and sampling; null where an imported attempt has none."""
    reward: Finite | None
    """tau2's reward; null where the attempt has no score."""
    termination: str
    """How the attempt ended (docs/failures.md); in an import, tau2's own word for it."""
    disposition: DispositionName
    """What becomes of such an attempt: `score`, `mask`, or `retry then drop`."""
    detail: str
    """What ended the attempt, where the termination alone does not say it."""
    partial: float | None
    """The strict partial score in [0, 1]; null without a score, and in an import."""
    components: dict[str, float]
    """The parts of the partial score by kind, each in [0, 1]."""
    reward_info: RewardInfoRecord | None
    """tau2's RewardInfo, with every check; null without a score."""
    database_difference: NotRequired[DatabaseDifference | None]
    """Where the databases at the end are not as the solution leaves them; null where they are, or where tau2 compared
    none; absent in an import, and where it is not known.
    """
    turns: list[TurnRecord]
    """The agent's turns in order; none in an import."""
    steps: int
    """tau2's count of hops."""
    tool_errors: int
    """Error results of tools, the user's included."""
    response_tokens: int
    """Tokens behind the prompt, sampled or not; 0 without tokens."""
    sampled_tokens: int
    """Tokens that the policy sampled."""
    segments: NotRequired[list[SegmentRecord]]
    """Its token record in pieces: one where the template keeps history, several where it rewrites it; none without
    tokens, or where it is not said.
    """
    wall_s: float | None
    """Seconds from beginning to score."""
    policy_s: float
    """Seconds of `wall_s` spent waiting for the policy."""
    user_s: float
    """Seconds of `wall_s` spent waiting for the user."""
    usage: dict[str, TokenCounts]
    """Tokens by role (`policy`, `user`, `judge`), as their servers reported them."""
    user_stopped_early: bool
    """Whether the user hung up right after confirming, before the agent could act."""
    messages: list[MessageRecord]
    """The conversation in order, as tau2 recorded it."""
    reasoning: list[ThoughtRecord]
    """What the models thought, in order, where their servers say it."""


@with_config(_STRICT)
class AttemptRecord(EpisodeRecord):
    """One line of `attempts.jsonl`: an episode's record, and which attempt of which run it is."""

    run: NotRequired[str]
    """The id of the run, as its plan has it."""
    attempt: Count
    """Number of the attempt at the task, from 0."""
    agent: NotRequired[str]
    """Import path of an agent of one's own, whose prompts are not among the messages; absent where it was ours."""
    turn_tokens: NotRequired[SkipValidation[list[list[tuple[str, float]]]]]
    """For each turn that sampled, its tokens as [text, log-prob]; absent where the policy was not sampled by tokens.
    Not checked when it is read.
    """


def fields() -> dict[str, str]:
    """{field of an `AttemptRecord`: what it is}, in the order of the classes above."""
    out: dict[str, str] = {}
    for kind in (TaskRecord, Provenance, EpisodeRecord, AttemptRecord):
        # pydantic finds the texts of the fields that a class itself declares, not of those that it inherits
        for name, schema in TypeAdapter(kind).json_schema()["properties"].items():
            if "description" in schema:
                out[name] = " ".join(schema["description"].split())
    return out
