"""What a run is: the tasks, how often, by whom, under which limits. `plan.json` says it before the first attempt.

Whoever reads a run reads its plan first and counts against it (`coverage.py`), so that half a run never looks like a
whole one, and three tasks never like a split.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

import slime_tau2
from slime_tau2 import bench, files
from slime_tau2.data import records
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.manifest import Manifest
from slime_tau2.tasksets import openings

FILE = "plan.json"
SUMMARY = "summary.json"
"""File of a run's scores."""
BASELINES = "baselines.json"
"""File of what scripts earn on the run's tasks (`baselines`)."""
TaskKey = tuple[str, str]
"""(domain, task id): ids of two domains may be the same."""


class TaskSet(BaseModel):
    """The tasks of one domain, or of one task set, in a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    domain: str
    """The domain's name, or the task set's."""
    split: str
    """The split that was asked for."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Task ids."""
    in_split: int = Field(ge=0)
    """How many of them are of the split."""
    split_size: int = Field(ge=0)
    """How many tasks the split has."""
    tasks_sha256: str
    """SHA-256 of tau2's task file."""
    retrieval: str | None = None
    """Retrieval kind of a domain that has several."""
    task_set_sha256: str | None = None
    """Of the task set (`SetManifest.sha256`); None: the tasks are tau2's own. So in the next two."""
    task_set_directory: str | None = None
    """Where the task set lay."""
    tau2_domain: str | None = None
    """The domain of tau2's that the task set is of."""

    @classmethod
    def of(cls, world: World, split: str, tasks: Sequence[str] | None = None) -> TaskSet:
        """All tasks of a split, or the named ones.

        Raises:
            BenchDataError: no such split, or no such task.
        """
        whole = world.task_ids(split)
        chosen = list(dict.fromkeys(whole if tasks is None else tasks))
        for task_id in chosen:
            world.task(task_id)
        if not chosen:
            raise ConfigError(f"split {split} of {world.name} has no task")
        inside = len(set(chosen) & set(whole))
        return cls(
            domain=world.name,
            split=split,
            tasks=tuple(chosen),
            in_split=inside,
            split_size=len(whole),
            tasks_sha256=world.tasks_sha256,
            retrieval=world.retrieval or None,
            task_set_sha256=world.task_set.sha256 if world.task_set else None,
            task_set_directory=str(world.task_set.directory) if world.task_set else None,
            tau2_domain=world.domain if world.task_set else None,
        )

    def open(self) -> None:
        """Open the task set that the tasks are of, if it still lies where it lay and is the same version.

        Else its name has its domain's traits, so that results can still be read.
        """
        if self.task_set_directory is None or self.tau2_domain is None:
            return
        try:
            openings.open_version(Path(self.task_set_directory), self.task_set_sha256)
        except ConfigError:
            openings.stand_in(self.domain, self.tau2_domain)

    @property
    def whole(self) -> bool:
        """Whether it is the split: all of it, and nothing else."""
        return len(self.tasks) == self.in_split == self.split_size

    @property
    def name(self) -> str:
        """The split's name where it is the split, else what it is instead."""
        if self.whole:
            return self.split
        if self.in_split == len(self.tasks):
            return f"{self.in_split} of {self.split_size} tasks of {self.split}"
        return f"{len(self.tasks)} chosen tasks, {self.in_split} of them of {self.split}"


@with_config(ConfigDict(extra="allow"))
class PolicyServer(TypedDict, total=False):
    """What the policy's server said about itself before the first attempt."""

    server: str | None
    """Kind and version."""
    model_path: str | None
    """Where it has its model from."""
    weight_version: str | None
    """Which weights of it."""
    context_length: int | None
    """Longest sequence that it takes, in tokens."""
    tokenizer_sha256: str
    """Hash of the tokenizer that was used here and compared with the server's."""
    model: str
    """The model that an OpenAI-compatible server answered with, when it was asked for `RunSettings.model`."""


@with_config(ConfigDict(extra="allow"))
class RunSettings(TypedDict, total=False):
    """Who acts in a run, and under which conditions. What a run does not say is absent."""

    policy: str
    """Who was evaluated: a script's name, a model directory, a server's URL; of a pipeline, a stage."""
    model: str | None
    """Model of an OpenAI-compatible server."""
    policy_server: PolicyServer
    """What the policy's server said about itself."""
    protocol: str
    """How the agent speaks."""
    thinking: str
    """Whether the policy thinks: auto, on, off."""
    temperature: float | None
    top_p: float | None
    top_k: int | None
    max_turn_tokens: int
    """Longest turn of the agent, in tokens."""
    max_thinking_tokens: int
    """Longest thought of a turn, in tokens, where thoughts were bound."""
    cut_thoughts: str
    """What became of a turn whose thought was longer."""
    max_context_tokens: int
    """Longest episode, in tokens."""
    stop_at_tool_call: bool
    """Whether sampling stopped at the end of a tool call."""
    seeded_sampling: bool
    """Whether the policy's server was sent seeds."""
    agent_prompt_sha256: str
    """Hash of the agent's prompt template, where that is not the protocol's own."""
    agent: str
    """Import path of an agent of one's own, through which the policy acted."""
    agent_sha256: str
    """Hash of the file that the path names."""
    user: str
    """Who spoke for the user."""
    user_model: str | None
    user_temperature: float | None
    user_thinking: str
    user_base_url: str
    """The user model's server."""
    judge_model: str
    """Model of the judge, whether one was asked or not."""
    retail_basis: str
    """What the rewards of retail are made of."""
    max_steps: int
    """tau2's limit on hops."""
    max_errors: int
    """tau2's limit on error results."""
    episode_timeout_s: float
    """Deadline of an episode, in seconds."""
    imported_from: str
    """File of tau2's results that the run was read from."""


class RunPlan(Manifest):
    """The manifest of a run."""

    FILE: ClassVar[str] = FILE
    KIND: ClassVar[str] = "run"

    format: Literal[1] = 1
    run: str = Field(default_factory=lambda: uuid.uuid4().hex)
    """Name of the run, which each of its records bears."""
    made_by: str = f"slime_tau2 {slime_tau2.__version__}"
    """Who began it."""
    sets: tuple[TaskSet, ...] = Field(min_length=1)
    """The tasks, one entry per domain."""
    attempts: int = Field(ge=1)
    """Attempts at each task."""
    seed: int | None = 0
    """Seed of the run; None: an imported run without one."""
    tau2: str = Field(default_factory=lambda: str(bench.VINTAGE.version))
    """Version of tau2."""
    settings: RunSettings = Field(default_factory=RunSettings)
    """Who acts, and under which conditions."""

    @classmethod
    def of(cls, directory: Path) -> RunPlan | None:
        """As `Manifest.of`; records without a plan are refused, not taken for an empty directory."""
        is_there = (directory / FILE).exists() or (directory / records.FILE).exists()
        return read(directory) if is_there else None

    def resuming(self, before: RunPlan, directory: Path) -> RunPlan:
        """As `Manifest.resuming`; a run may grow by tasks and by attempts, and keeps its name."""
        growing(before, self, directory)
        if before.sets == self.sets and before.attempts == self.attempts:
            return before
        return self.model_copy(update={"run": before.run})

    @property
    def keys(self) -> list[TaskKey]:
        return [(s.domain, t) for s in self.sets for t in s.tasks]

    @property
    def domains(self) -> list[str]:
        return [s.domain for s in self.sets]

    @property
    def name(self) -> str:
        """`airline, retail (test)`, or `airline (3 of 20 tasks of test), retail (test)`."""
        names = {s.name for s in self.sets}
        if len(names) == 1:
            return f"{', '.join(self.domains)} ({names.pop()})"
        return ", ".join(f"{s.domain} ({s.name})" for s in self.sets)

    def set_of(self, domain: str) -> TaskSet | None:
        return next((s for s in self.sets if s.domain == domain), None)

    def write(self, directory: Path) -> None:
        """Write the file, and remove what was counted against another plan: fewer attempts, or other tasks."""
        for stale in (SUMMARY, BASELINES):
            (directory / stale).unlink(missing_ok=True)
        files.write_whole(directory / FILE, self.model_dump_json(indent=1, exclude_none=True))


def read(directory: Path) -> RunPlan:
    """The plan of a run; its task sets are open then, as far as they are there.

    Raises:
        ConfigError: there is none, or it is none that this version can read; says what to do.
    """
    path = directory / FILE
    if not path.exists():
        if (directory / "settings.json").exists() and (directory / records.FILE).exists():
            raise ConfigError(
                f"{directory} was written before runs had a {FILE}, so that nobody can say whether it is whole; "
                "evaluate into another --output (`slime-tau2 rft` still reads its attempts.jsonl)"
            )
        raise ConfigError(f"{directory} holds no run of `slime-tau2 eval` ({FILE} and attempts.jsonl)")
    plan = files.read_as(path, RunPlan)
    if len(set(plan.domains)) < len(plan.domains):
        raise ConfigError(f"{path}: sets: a domain is named twice")
    for tasks in plan.sets:
        tasks.open()
    return plan


def growing(before: RunPlan, now: RunPlan, directory: Path) -> None:
    """See that a run may go on as another: the same in all, with more tasks or attempts at most.

    Raises:
        ConfigError: names the first thing that differs.
    """

    def refuse(what: str, old: Any, new: Any) -> None:
        raise ConfigError(f"{directory} holds a run with {what} = {old!r}, not {new!r}; use another --output")

    for key in ("tau2", "seed"):
        if getattr(before, key) != getattr(now, key):
            refuse(key, getattr(before, key), getattr(now, key))
    for key in sorted({*before.settings, *now.settings}):
        if key == "policy_server" and not (key in before.settings and key in now.settings):
            continue  # a busy server, or an older version, did not say
        if before.settings.get(key) != now.settings.get(key):
            refuse(key, before.settings.get(key), now.settings.get(key))
    if now.attempts < before.attempts:
        refuse("attempts", before.attempts, now.attempts)
    for old in before.sets:
        new = now.set_of(old.domain)
        if new is None:
            refuse("domains", ", ".join(before.domains), ", ".join(now.domains))
            continue
        if old.task_set_sha256 != new.task_set_sha256:
            raise ConfigError(
                f"{directory} holds a run of another version of the task set {old.domain} (sha256 "
                f"{old.task_set_sha256}, not {new.task_set_sha256}); use that version, or another --output"
            )
        for key in ("split", "tasks_sha256", "retrieval"):
            if getattr(old, key) != getattr(new, key):
                refuse(f"{key} of {old.domain}", getattr(old, key), getattr(new, key))
        missing = [t for t in old.tasks if t not in set(new.tasks)]
        if missing:
            raise ConfigError(
                f"{directory} holds a run of more tasks of {old.domain}, {missing[0]!r} among them; name them "
                "too, or use another --output"
            )
