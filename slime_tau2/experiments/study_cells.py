"""What a cell of a study leaves for the results: `result.json`, made from its evaluation when it has ended.

It is small and stands alone. So cells of several machines make one study by these files, and a study can be published
with them; models, records and logs may go.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from slime_tau2 import files
from slime_tau2.data import records as attempts
from slime_tau2.data import rejection
from slime_tau2.episode import worlds
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import behaviour, exploits, failures, runs
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import spending
from slime_tau2.experiments.spending import Point, Spending
from slime_tau2.experiments.study_grid import Job, StudySettings, jobs
from slime_tau2.record import AttemptRecord

FILE = "result.json"
Successes = dict[str, list[bool]]
"""{held-out task: success of each attempt}."""


class Result(BaseModel):
    """One cell that has ended."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    settings_sha256: str
    """SHA-256 of the settings that it was trained with."""
    successes: Successes
    behaviour: dict[str, float]
    """Means over the held-out episodes (`behaviour.means`), and the strict partial score; NaN where there is none."""
    failures: dict[str, float]
    """{kind of failure: share of the held-out episodes}."""
    spending: Spending
    curve: list[Point]
    wall_s: float
    """Seconds that it took."""
    selected: dict[str, int] = Field(default_factory=dict)
    """What became of the attempts that RFT's data were selected from (`rejection.Selection.counts`); {} for a stage
    that trains on all it samples.
    """
    model_sha256: str = ""
    """Of its weights, by which a model that is brought from another machine is known; empty where it was gone."""
    task_set_sha256: str = ""
    """Version of the task set that it was evaluated on; empty of a domain, and of results of earlier versions."""


class Cells:
    """The cells of one study, as far as they have ended."""

    def __init__(self, directory: Path, settings: StudySettings):
        self.directory, self.settings = directory, settings

    def results(self) -> dict[str, dict[int, Result]]:
        """{cell: {seed: its result}}.

        Raises:
            ConfigError: a file of a cell is broken or of other settings, or the task set is not there; cells are of
                different versions of it.
            EvaluationStopped: an evaluation is not whole.
        """
        found: dict[str, dict[int, Result]] = {}
        versions: dict[str, Job] = {}
        for job in jobs(self.directory, self.settings):
            if has_ended(job):
                result = found.setdefault(job.name, {})[job.seed] = self.result(job)
                if result.task_set_sha256:
                    versions.setdefault(result.task_set_sha256, job)
        if len(versions) > 1:
            (a, one), (b, other), *_ = versions.items()
            raise ConfigError(
                f"{one} and {other} of {self.directory} are of different versions of {self.settings.pipeline['tasks']} "
                f"({a}, {b}) and do not compare: remove the cells of one, and run them again on the other"
            )
        return found

    def see_that_they_are_of(self, world: World) -> None:
        """See that the cells that have ended are of the version of the task set that is here.

        Raises:
            ConfigError: one is of another. Or as `results`.
        """
        here = "" if world.task_set is None else world.task_set.sha256
        for name, seeds in self.results().items():
            for seed, result in seeds.items():
                if result.task_set_sha256 not in ("", here):
                    raise ConfigError(
                        f"{Job(self.directory, seed, name)} of {self.directory} is of version {result.task_set_sha256} "
                        f"of {self.settings.pipeline['tasks']}, and {here or 'a domain'} is here: bring the task set "
                        "that it was run on, or begin a study of its own in another --output"
                    )

    def result(self, job: Job) -> Result:
        """The result of a cell that has ended. Raises as `results`.

        It is written where it is not there yet. What the one of an earlier version lacks is added, where the cell that
        it was made from is still there.
        """
        path, sha256 = job.directory / FILE, _sha256(job, self.settings)
        if not path.exists():
            files.write_whole(path, self.measured(job).model_dump_json())
        result = files.read_as(path, Result)
        if result.settings_sha256 != sha256:
            raise ConfigError(f"{path} is of a cell with other settings than {self.directory / StudySettings.FILE} has")
        lacking = set(Result.model_fields) - result.model_fields_set
        if lacking and is_evaluated(job):
            made = self.measured(job)
            if made.successes == result.successes:  # else it is another model, trained again
                result = result.model_copy(update=made.model_dump(include=lacking))
                files.write_whole(path, result.model_dump_json())
        return result

    def is_as_told(self, job: Job) -> bool:
        """Whether the model that is here is the one that the cell's result tells of: the same weights, or the same
        successes at every attempt. Raises as `results`.
        """
        told = self.result(job)
        if told.model_sha256 and told.model_sha256 == _weights_sha256(job):
            return True
        return is_evaluated(job) and self.measured(job).successes == told.successes

    def measured(self, job: Job) -> Result:
        """The result of a cell whose evaluation is here. Raises as `results`."""
        world = worlds.load(self.settings.pipeline["tasks"])
        tools = behaviour.Tools(world.writes, exploits.required_arguments(world.tool_schemas))
        evaluated = layout.evaluation(job.directory, job.stage)
        run = runs.load(evaluated)
        runs.require_scores(run.coverage, run.records, evaluated)
        spent, curve = spending.spent(job.directory, job.stage)
        samples = layout.rft_samples(job.directory) / attempts.FILE
        rule = self.settings.of_seed(job.seed, **self.settings.cells[job.name]).rft_min_partial
        partial = sum(record["partial"] or 0.0 for record in run.records) / len(run.records)
        return Result(
            settings_sha256=_sha256(job, self.settings),
            successes={task_id: list(successes) for (_, task_id), successes in run.successes.items()},
            behaviour={"partial": partial, **behaviour.means(run.records, tools)},
            failures=_kinds(run.records, tools.writes),
            spending=spent,
            curve=curve,
            wall_s=files.read_as(job.directory / layout.USAGE, layout.Usage).wall_s,
            selected=rejection.select(attempts.read(samples), rule).counts if samples.exists() else {},
            model_sha256=_weights_sha256(job),
            task_set_sha256=next((record.get("task_set_sha256", "") for record in run.records), ""),
        )


def has_ended(job: Job) -> bool:
    """Whether a cell's result is there, or can be made."""
    return (job.directory / FILE).exists() or is_evaluated(job)


def is_evaluated(job: Job) -> bool:
    """Whether a cell is here as its training left it: its model, and that model's evaluation."""
    return layout.is_evaluated(job.directory, job.stage)


def has_model(job: Job) -> bool:
    """Whether a cell can be gone on from: it is here as its training left it, or its model was brought here beside its
    result.
    """
    return is_evaluated(job) or bool(_weights(job))


def _weights(job: Job) -> list[Path]:
    """The files of a cell's model; [] where it is not here."""
    return sorted(layout.model(job.directory, job.stage).glob("*.safetensors"))


def _weights_sha256(job: Job) -> str:
    """Of a cell's model; empty where it is not here."""
    digest, weights = hashlib.sha256(), _weights(job)
    for file in weights:
        digest.update(file.read_bytes())
    return digest.hexdigest() if weights else ""


def _sha256(job: Job, settings: StudySettings) -> str:
    whole: dict[str, Any] = settings.of_seed(job.seed, **settings.cells[job.name]).model_dump(mode="json")
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _kinds(records: Sequence[AttemptRecord], writes: AbstractSet[str]) -> dict[str, float]:
    found = Counter(failure.kind for r in records if (failure := failures.classify(r, writes)) is not None)
    return {kind: count / len(records) for kind, count in found.items()}
