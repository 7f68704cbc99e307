"""What the page knows of a training's rollouts: an index of all of them, and the tokens of one.

A rollout is read anew when one of its files has changed. Those that a resumed run made before it was killed, and has
not made again yet, are older than the ones before them: they are left out, and named.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeAlias, TypedDict

from slime_tau2.dumps.arrays import pack_floats, unpack_floats, unpack_ids
from slime_tau2.dumps.format import GroupRow, RolloutPart, SampleRow, SampleTokens, TrainerPart, TrainerSample
from slime_tau2.errors import ConfigError
from slime_tau2.hooks.rollout_rows import reason
from slime_tau2.rollouts.found import Rollouts

GROUP_FIELDS = ("step", "group", "domain", "task", "served", "verdict", "fate", "why", "count")
SAMPLE_FIELDS = (
    "sample",
    "segment",
    "reward",
    "training_reward",
    "advantage",
    "partial",
    "trains",
    "why_not",
    "termination",
    "detail",
    "components",
    "turns",
    "calls",
    "tool_errors",
    "malformed",
    "response_tokens",
    "trained_tokens",
    "log_prob",
    "policy_s",
    "user_s",
    "weights",
)
"""Fields of a `SampleRow`, in the order in which the index has them; two more follow: the trainer's mean log-prob and
the mean absolute difference of both, null where they are not known; and whether there are tokens.
"""


class Step(TypedDict):
    """A rollout in the index."""

    step: int
    written: float
    seconds: float
    figures: dict[str, float]
    waiting: int
    left_out: int
    others: int
    """Samples of which a trainer speaks, but had other tokens."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What was read of a rollout."""

    stamp: tuple[tuple[str, int, int], ...]
    step: Step
    groups: list[list[Any]]
    samples: list[list[Any]]
    options: dict[str, Any]
    writer: str


class Reader:
    """Reads the rollouts of a training, again and again."""

    def __init__(self, rollouts: Rollouts):
        self.rollouts = rollouts
        self.version = 0
        """Changes when the index does."""
        self._known: dict[int, _Known] = {}

    def refresh(self) -> bool:
        """Read what is new; whether anything was.

        Raises:
            ConfigError: a file is broken, or of another format; names it. What was known before stays.
        """
        there = self.rollouts.written()
        changed = self._known.keys() - set(there)
        for rollout in changed:
            del self._known[rollout]
        fresh = bool(changed)
        for rollout in there:
            stamp = self.rollouts.stamp(rollout)
            before = self._known.get(rollout)
            if before is None or before.stamp != stamp:
                self._known[rollout] = _read(self.rollouts.rollout(rollout), self.rollouts.trainers(rollout), stamp)
                fresh = True
        self.version += fresh
        return fresh

    def current(self) -> list[int]:
        """The rollouts that belong together, in order."""
        out, newest = [], 0.0
        for rollout, known in sorted(self._known.items()):
            if known.step["written"] >= newest:
                out.append(rollout)
            newest = max(newest, known.step["written"])
        return out

    def sizes(self) -> dict[int, int]:
        """{rollout: bytes of its files}."""
        return {rollout: sum(size for *_, size in self._known[rollout].stamp) for rollout in self.current()}

    def index(self) -> dict[str, Any]:
        """All rollouts, without tokens, as JSON."""
        current = self.current()
        known = [self._known[rollout] for rollout in current]
        return {
            "directory": str(self.rollouts.directory),
            "version": self.version,
            "writer": known[-1].writer if known else "",
            "options": known[-1].options if known else {},
            "stale": [rollout for rollout in sorted(self._known) if rollout not in current],
            "steps": [k.step for k in known],
            "group_fields": GROUP_FIELDS,
            "groups": [row for k in known for row in k.groups],
            "sample_fields": [*SAMPLE_FIELDS, "trainer", "apart", "tokens"],
            "samples": [row for k in known for row in k.samples],
        }

    def tokens(self, rollout: int) -> dict[str, Any]:
        """The tokens of a rollout: prompts, pieces, and by sample what `SampleTokens` has and the trainer's log-probs.

        Raises:
            ConfigError: it is not there, or a file of it is broken.
        """
        if rollout not in self._known:
            raise ConfigError(f"{self.rollouts.directory} holds no rollout {rollout}")
        part = self.rollouts.rollout(rollout)
        said = _by_sample(part, self.rollouts.trainers(rollout))[0]
        return {
            "prompts": part["prompts"],
            "pieces": part["pieces"],
            "samples": {f"{s['sample']}.{s['segment']}": {**s, **said.get(_key(s), {})} for s in part["samples"]},
        }


def _read(part: RolloutPart, trainers: list[TrainerPart], stamp: tuple[tuple[str, int, int], ...]) -> _Known:
    said, others = _by_sample(part, trainers)
    of_tokens = {(s["sample"], s["segment"]): s for s in part["samples"]}
    groups, samples = [], []
    for group in part["groups"]:
        groups.append(_group(part["rollout"], group))
        for row in group["samples"]:
            # what a group that is served again played is another try of the same samples
            tokens = of_tokens.get((row["sample"], row["segment"])) if group["fate"] == "trained" else None
            samples.append(_sample(row, tokens, None if tokens is None else said.get(_key(tokens), {}).get("trainer")))
    step = Step(
        step=part["rollout"],
        written=part["written"],
        seconds=part["seconds"],
        figures=part["figures"],
        waiting=part["waiting"],
        left_out=part["left_out"],
        others=others,
    )
    return _Known(
        stamp=stamp, step=step, groups=groups, samples=samples, options=part["options"], writer=part["writer"]
    )


def _group(step: int, row: GroupRow) -> list[Any]:
    place = [step, row["group"], row["domain"], row["task"]]
    return [*place, reason(row["served"]), row["verdict"], row["fate"], row["why"], len(row["samples"])]


def _sample(row: SampleRow, tokens: SampleTokens | None, trainer: str | None) -> list[Any]:
    values: dict[str, Any] = {**row}
    told = [_rounded(values[name]) for name in SAMPLE_FIELDS]
    if tokens is None:
        return [*told, None, None, 0]
    if trainer is None:
        return [*told, None, None, 1]
    pairs = [(a, b) for a, b in zip(unpack_floats(tokens["log_probs"]), unpack_floats(trainer)) if b == b]
    if not pairs:
        return [*told, None, None, 1]
    return [*told, _rounded(fmean(b for _, b in pairs)), fmean(abs(a - b) for a, b in pairs), 1]


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


_Key: TypeAlias = tuple[int | None, int]


def _key(told: SampleTokens | TrainerSample) -> _Key:
    """What names a sample's tokens, whoever speaks of them."""
    return told["sample"], told["crc"]


def _by_sample(part: RolloutPart, trainers: list[TrainerPart]) -> tuple[dict[_Key, dict[str, Any]], int]:
    """(what trainers say of each sample, how many samples they had with other tokens)."""
    of_tokens = {_key(s): s for s in part["samples"]}
    by_sample: dict[_Key, list[TrainerSample]] = {}
    others = 0
    for told in (s for trainer in trainers for s in trainer["samples"]):
        if _key(told) in of_tokens:
            by_sample.setdefault(_key(told), []).append(told)
        else:
            others += 1
    out: dict[_Key, dict[str, Any]] = {}
    for key, parts in by_sample.items():
        count = sum(end - start for start, end in of_tokens[key]["trained"])
        trainer = _whole([(p["at"], p["log_probs"]) for p in parts], count)
        advantages = _whole([(p["at"], p["advantages"]) for p in parts], count)
        out[key] = {"trainer": trainer, **({} if advantages is None else {"advantages": advantages})}
    return out, others


def _whole(shares: list[tuple[str | None, str | None]], count: int) -> str | None:
    """One array of shares of it; NaN where no share has a number. None where none has any."""
    values = [float("nan")] * count
    there = False
    for at, numbers in shares:
        if numbers is None:
            continue
        there = True
        places = range(count) if at is None else unpack_ids(at)
        for place, value in zip(places, unpack_floats(numbers)):
            if place < count:
                values[place] = value
    return pack_floats(values) if there else None
