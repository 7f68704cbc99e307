"""The study: what it declares, which cells a process runs, and what it says of cells that nobody trained."""

import fcntl
import json
import os
import shutil
from argparse import Namespace
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import simulated_seeds
import study_files
from rich.console import Console

from slime_tau2 import manifest
from slime_tau2.errors import ConfigError, EvaluationStopped, PolicyError
from slime_tau2.evaluation import estimators
from slime_tau2.evaluation.exploits import Exploits, exploits, required_arguments
from slime_tau2.experiments import directory as layout
from slime_tau2.experiments import spending, study, study_curves
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.experiments.spending import Point
from slime_tau2.experiments.study_cells import Cells
from slime_tau2.experiments.study_grid import BASELINE, CELLS, CONTROL, START, Job, StudySettings, jobs, part
from slime_tau2.experiments.study_report import write_report
from slime_tau2.experiments.study_results import Difference
from slime_tau2.experiments.study_time import forecast
from slime_tau2.experiments.watch import Progress

SIZES = [
    "tasks=helpdesk",
    "traces=60",
    "sft_steps=6",
    "rft_steps=2",
    "rft_tasks=30",
    "rft_attempts=1",
    "grpo_steps=3",
    "grpo_episodes=10",
    "grpo_groups=2",
    "grpo_group_size=2",
    "eval_tasks=6",
    "eval_attempts=2",
    "max_turn_tokens=12",
    "max_response_tokens=120",
]


def test_a_part_of_a_study_runs_resumes_and_refuses_another(cli, tmp_path):
    output, sizes = tmp_path / "study", [x for s in SIZES for x in ("--set", s)]
    command = ("study", "--smoke", *sizes, "--output", output, "--seed", "0", "--only", CONTROL)
    code, out, error = cli(*command)
    assert code == 0, error
    assert "0 of 3 cells are there" in out and "minutes per cell: start" in out
    assert "primary, declared before the run: gated − rft_continued in pass^1" in out
    assert "1 of 2 seeds (PARTIAL: 3 of" in out
    report = json.loads((output / "report.json").read_text())
    assert set(report["results"]) == {START, BASELINE, CONTROL}
    budgets = report["control's budget over the baseline's"]
    assert budgets["episodes"]["0"] == pytest.approx(1.0, abs=0.1) and budgets["sequences"]["0"] > 0
    assert report["results"][BASELINE]["spent"]["0"]["episodes"] >= 10, "the budget is reached"
    assert (output / "study.svg").read_text().startswith("<svg")
    weights = output / "seed_0" / BASELINE / "grpo" / "model" / "model.safetensors"
    before = weights.read_bytes()
    code, out, _ = cli(*command)
    assert code == 0 and weights.read_bytes() == before and "GRPO, 2 groups" not in out
    code, _, error = cli(*command, "--set", "grpo_lr=1")
    assert code == 2 and "holds a study with other settings (pipeline)" in error
    code, _, error = cli("study", "--smoke", *sizes, "--output", tmp_path / "x", "--only", "nope")
    assert code == 2 and "error: --only nope: this study has start, gated" in error


# What is declared, and in what order it is run


def test_the_declaration_is_whole_and_each_cell_has_its_settings(tmp_path):
    declared = study_files.settings()
    declared.write(tmp_path)
    told = json.loads((tmp_path / "study.json").read_text())
    assert (told["primary"], told["metric"], told["seeds"]) == ([BASELINE, CONTROL], "pass^1", 5)
    assert set(told["pipeline"]) == set(PipelineSettings.model_fields) - {"seed"}, "no default that could change later"
    assert {cell for cell, _ in told["secondary"]} == set(CELLS) - {START} and "No cell is ended" in told["stops"]
    samples = told["pipeline"]["grpo_groups"] * told["pipeline"]["grpo_group_size"]
    for name, cell in CELLS.items():  # a setting that does not exist fails here, not after an hour
        settings = declared.of_seed(1, **told["cells"][name])
        assert settings.seed == 1 and settings.grpo_groups * settings.grpo_group_size == samples
        study.check(settings)
        assert cell.against in (*CELLS, "")
    with pytest.raises(ValueError, match="secondary_seeds = 3, and there are 2 seeds"):
        StudySettings(seeds=2, pipeline=told["pipeline"])


def test_options_of_the_hooks_that_all_cells_share_stay_in_each():
    declared = study_files.settings(tau2={"alpha": 0.5})
    assert declared.of_seed(0, **declared.cells["card"]).tau2 == {"alpha": 0.5, "shaping": "card"}


def test_the_primary_comparison_is_run_first_and_nothing_before_what_it_needs(tmp_path):
    cells = jobs(tmp_path, study_files.settings())
    assert [c.name for c in cells[:6]] == [START, BASELINE, CONTROL] * 2
    assert len(cells) == 5 * 3 + 3 * (len(CELLS) - 3) and len({c.directory for c in cells}) == len(cells)
    assert all(cells.index(need) < cells.index(cell) for cell in cells for need in cell.needs)


def test_a_part_has_what_it_needs(tmp_path):
    cells = jobs(tmp_path, study_files.settings())
    named = lambda *chosen: [(j.seed, j.name) for j in part(cells, *chosen)]  # noqa: E731
    assert named([4], []) == [(4, START), (4, BASELINE), (4, CONTROL)]
    assert named([1], [CONTROL]) == [(1, START), (1, BASELINE), (1, CONTROL)]
    assert named([], ["none"]) == [(0, START), (1, START), (2, START), (0, "none"), (1, "none"), (2, "none")]
    assert named([], []) == [(j.seed, j.name) for j in cells]
    for chosen, message in (
        (([5], []), "--seed 5: this study has 0, 1, 2, 3, 4"),
        (([], ["nope"]), "--only nope: this study has start, gated"),
        (([4], ["none"]), "--only none: it has seeds 0, 1, 2"),
    ):
        with pytest.raises(ConfigError, match=message):
            part(cells, *chosen)


# Several processes


class Stand(study.Pipeline):
    """A pipeline that holds its directory, as any, and leaves a cell without training."""

    ran: ClassVar[list[str]] = []
    given: ClassVar[dict[str, dict[str, str]]] = {}

    def run_until(self, last):
        return self.run_stage(last, None)

    def run_stage(self, name, start):
        with manifest.claim(self.directory, self.settings):
            self.ran.append(self.directory.parent.name + "/" + self.directory.name)
            self.given[self.ran[-1]] = dict(self.paths)
            seed, cell = self.directory.parent, self.directory.name
            study_files.cell(Job(seed.parent, int(seed.name[5:]), cell), {n: [True, False] for n in range(4)})


@pytest.fixture
def stand(monkeypatch):
    monkeypatch.setattr(study, "Pipeline", Stand)
    monkeypatch.setattr(Stand, "ran", [])
    monkeypatch.setattr(Stand, "given", {})
    return Stand.ran


def test_a_cell_that_another_process_runs_is_left_to_it_and_so_is_what_needs_it(tmp_path, stand):
    declared = study_files.settings(seeds=2)
    mine = part(jobs(tmp_path, declared), [], [CONTROL])
    taken = mine[0].directory
    taken.mkdir(parents=True)
    with (taken / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stopped = study.run(mine, declared, Progress(), Console(quiet=True))
        assert stand == ["seed_1/start", "seed_1/gated", "seed_1/rft_continued"], stopped
        assert [(str(job), "is being written by" in str(error)) for job, error in stopped.items()] == [
            ("seed 0, start", True)
        ]
    assert study.run(mine, declared, Progress(), Console(quiet=True)) == {}
    assert stand[3:] == ["seed_0/start", "seed_0/gated", "seed_0/rft_continued"]


def test_a_cell_that_fails_stops_what_needs_it_and_no_other(tmp_path, stand, monkeypatch):
    """Hours of a night are not lost for one cell; the exit code says that it is not there."""
    run_stage = Stand.run_stage

    def fails(self, name, start):
        if self.directory.name == BASELINE and self.settings.seed == 0:
            raise PolicyError("the local server exited with code -9")
        run_stage(self, name, start)

    monkeypatch.setattr(Stand, "run_stage", fails)
    told = {"seeds": 2, "only_seeds": [], "only_cells": [CONTROL], "smoke": False, "assignments": ["tasks=helpdesk"]}
    console = Console(record=True, width=300, file=open(os.devnull, "w"))
    with pytest.raises(ConfigError, match="1 of 6 cells failed, as said above"):
        study.main(output=tmp_path / "s", **told, console=console)
    assert stand == ["seed_0/start", "seed_1/start", "seed_1/gated", "seed_1/rft_continued"]
    text = console.export_text()
    assert "not there: seed 0, gated: policy: the local server exited" in text and "1 of 2 seeds (PARTIAL" in text
    monkeypatch.setattr(Stand, "run_stage", run_stage)
    study.main(output=tmp_path / "s", **told, console=console)
    assert stand[4:] == ["seed_0/gated", "seed_0/rft_continued"] and "2 of 2 seeds" in console.export_text()


def test_a_cell_whose_evaluation_the_infrastructure_ended_is_run_again(tmp_path, stand, monkeypatch):
    """Such an evaluation leaves records and a summary. The same command plays what has no score, as its error says, and
    other cells are not held up meanwhile.
    """
    run_stage = Stand.run_stage

    def breaks_off(self, name, start):
        run_stage(self, name, start)
        if self.directory.name == BASELINE:
            evaluated = layout.evaluation(self.directory, name)
            lines = (evaluated / "attempts.jsonl").read_text().splitlines(keepends=True)
            (evaluated / "attempts.jsonl").write_text("".join(lines[:-1]))
            (evaluated / "summary.json").write_text('{"whole": false}')
            raise EvaluationStopped("7 of 8 attempts scored")

    monkeypatch.setattr(Stand, "run_stage", breaks_off)
    declared, quiet = study_files.settings(seeds=1), Console(quiet=True)
    study._declare(tmp_path, declared)
    stopped = study.run(part(jobs(tmp_path, declared), [], [BASELINE]), declared, Progress(), quiet)
    assert [str(job) for job in stopped] == ["seed 0, gated"]
    assert study.run(part(jobs(tmp_path, declared), [], ["none"]), declared, Progress(), quiet) == {}
    write_report(tmp_path, quiet)
    assert set(json.loads((tmp_path / "report.json").read_text())["results"]) == {START, "none"}
    monkeypatch.setattr(Stand, "run_stage", run_stage)
    assert study.run(part(jobs(tmp_path, declared), [], [BASELINE]), declared, Progress(), quiet) == {}
    assert stand == ["seed_0/start", "seed_0/gated", "seed_0/none", "seed_0/gated"]
    assert len(Cells(tmp_path, declared).results()[BASELINE][0].successes) == 4


def test_a_study_is_filled_by_copying_directories(tmp_path, stand):
    """Each part is run where the study was declared alike; the whole of it is reported where the parts are."""
    declared = study_files.settings(seeds=2)
    for name, seed in (("here", 0), ("there", 1)):
        study._declare(tmp_path / name, declared)
        cells = part(jobs(tmp_path / name, declared), [seed], [])
        assert study.run(cells, declared, Progress(), Console(quiet=True)) == {}
    shutil.copytree(tmp_path / "there" / "seed_1", tmp_path / "here" / "seed_1")
    count = len(stand)
    everything = jobs(tmp_path / "here", declared)
    assert study.run(everything, declared, Progress(), Console(quiet=True)) == {} and len(stand) == count
    write_report(tmp_path / "here", Console(quiet=True))
    report = json.loads((tmp_path / "here" / "report.json").read_text())
    assert report["cells"] == {"ended": len(everything), "of": len(everything)}
    with pytest.raises(ConfigError, match=r"holds a study with other settings \(seeds, secondary_seeds\)"):
        study._declare(tmp_path / "here", study_files.settings(seeds=3))


def test_results_alone_are_a_study_and_a_start_is_trained_again_where_cells_are_missing(tmp_path, stand):
    """Models and records may go: what is left is small, and a start that is needed again must be the same."""
    declared, quiet = study_files.settings(seeds=2), Console(quiet=True)
    first = part(jobs(tmp_path / "a", declared), [0], [CONTROL])
    study._declare(tmp_path / "a", declared)
    study.run(first, declared, Progress(), quiet)
    write_report(tmp_path / "a", quiet)
    study._declare(tmp_path / "b", declared)
    for job in first:
        kept = tmp_path / "b" / "seed_0" / job.name
        kept.mkdir(parents=True)
        shutil.copy(job.directory / "result.json", kept)
    write_report(tmp_path / "b", quiet)
    reports = [(tmp_path / name / "report.json").read_text() for name in "ab"]
    assert reports[0] == reports[1] and json.loads(reports[0])["cells"]["ended"] == 3
    assert sum(f.stat().st_size for f in (tmp_path / "b" / "seed_0").rglob("*")) < 50_000

    more, before = part(jobs(tmp_path / "b", declared), [0], ["turn"]), len(stand)
    assert study.run(more, declared, Progress(), quiet) == {}
    assert stand[before:] == ["seed_0/start", "seed_0/turn"], "the start's model is needed; the primary's cells are not"

    start = tmp_path / "b" / "seed_0" / START
    told = json.loads((start / "result.json").read_text())
    told["successes"]["orders_1"] = [False, False]
    (start / "result.json").write_text(json.dumps(told))
    shutil.rmtree(start / "eval")
    more, before = part(jobs(tmp_path / "b", declared), [0], ["call"]), len(stand)
    again = study.run(more, declared, Progress(), quiet)
    assert ["it wins other attempts" in str(error) for error in again.values()] == [True]
    again = study.run(more, declared, Progress(), quiet)
    assert ["is not the one that" in str(error) for error in again.values()] == [True], "and whoever asks again"
    assert stand[before:] == ["seed_0/start"], "no cell goes on from another start"
    other = study_files.settings(seeds=2, grpo_lr=1e-3)
    (tmp_path / "b" / "study.json").unlink()
    study._declare(tmp_path / "b", other)
    with pytest.raises(ConfigError, match=r"result.json is of a cell with other settings than .*study.json has"):
        write_report(tmp_path / "b", quiet)


def test_a_start_whose_model_is_brought_along_is_gone_on_from_on_any_machine(tmp_path, stand):
    declared, quiet = study_files.settings(seeds=1), Console(quiet=True)
    first = part(jobs(tmp_path / "a", declared), [0], [BASELINE])
    study._declare(tmp_path / "a", declared)
    weights = layout.model(first[0].directory, "rft") / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    study.run(first, declared, Progress(), quiet)
    assert json.loads((first[0].directory / "result.json").read_text())["model_sha256"]

    study._declare(tmp_path / "b", declared)
    start = tmp_path / "b" / "seed_0" / START
    shutil.copytree(weights.parent, start / "rft" / "model")
    shutil.copy(first[0].directory / "result.json", start)
    run = lambda name: study.run(part(jobs(tmp_path / "b", declared), [0], [name]), declared, Progress(), quiet)  # noqa: E731
    stand.clear()
    assert run("turn") == {} and stand == ["seed_0/turn"], "nothing is trained again"
    said = run("prefix")
    assert ["which has the successes that `prefix` begins within" in str(error) for error in said.values()] == [True]
    (start / "rft" / "model" / "model.safetensors").write_bytes(b"others")
    said = run("call")
    assert ["its model is not the one that" in str(error) for error in said.values()] == [True]
    assert stand == ["seed_0/turn"]


def test_prefixes_are_the_starts_own_successes_and_controls_spend_what_grpo_did(tmp_path, stand):
    declared = study_files.settings(seeds=1)
    study.run(jobs(tmp_path, declared), declared, Progress(), Console(quiet=True))
    read = lambda name: PipelineSettings.of(tmp_path / "seed_0" / name)  # noqa: E731
    samples = tmp_path / "seed_0" / START / "data" / "rft_samples" / "attempts.jsonl"
    assert Stand.given["seed_0/prefix"] == {"prefix_starts": str(samples)} and Stand.given["seed_0/gated"] == {}
    assert read("prefix").tau2 == {"curriculum": True}, "the path is no setting: the study may be moved"
    for name, partial in ((CONTROL, 0.6), ("rft_successes", 1.0)):
        told = read(name)
        episodes = study_files.ROLLOUTS * (study_files.EPISODES + study_files.CUT_OFF)
        assert abs(told.rft_tasks * told.rft_attempts - episodes) <= told.rft_attempts / 2 and told.rft_tasks <= 750
        assert told.rft_sequences == study_files.ROLLOUTS * study_files.TRAINED and told.rft_min_partial == partial


def test_without_a_success_to_begin_within_prefixes_are_the_curriculum_and_say_so(tmp_path, stand, caplog):
    declared = study_files.settings(seeds=1)
    study.run(part(jobs(tmp_path, declared), [], [START]), declared, Progress(), Console(quiet=True))
    samples = layout.rft_samples(tmp_path / "seed_0" / START) / "attempts.jsonl"
    samples.write_text(samples.read_text().replace('"reward": 1.0', '"reward": 0.0'))
    study.run(part(jobs(tmp_path, declared), [], ["prefix"]), declared, Progress(), Console(quiet=True))
    assert PipelineSettings.of(tmp_path / "seed_0" / "prefix").tau2 == {"curriculum": True}
    assert "has no success at a train task for a group to begin within: `prefix` is the curriculum" in caplog.text
    assert Stand.given["seed_0/prefix"] == {}


def test_a_prefix_cell_goes_on_where_the_study_was_moved_to(tmp_path, stand):
    declared, quiet = study_files.settings(seeds=1), Console(quiet=True)
    prefix = lambda name: part(jobs(tmp_path / name, declared), [], ["prefix"])  # noqa: E731
    study._declare(tmp_path / "a", declared)
    assert study.run(prefix("a"), declared, Progress(), quiet) == {}
    cell = tmp_path / "a" / "seed_0" / "prefix"
    (cell / "eval" / "grpo" / "summary.json").unlink()
    (cell / "result.json").unlink()
    (tmp_path / "a").rename(tmp_path / "b")
    assert study.run(prefix("b"), declared, Progress(), quiet) == {} and stand.count("seed_0/prefix") == 2


def test_prefixes_of_another_version_of_the_task_set_stop_the_cell(tmp_path, stand):
    """Else it would be the curriculum under the name of prefix starts."""
    declared, quiet = study_files.settings(seeds=1), Console(quiet=True)
    study.run(part(jobs(tmp_path, declared), [], [START]), declared, Progress(), quiet)
    samples = layout.rft_samples(tmp_path / "seed_0" / START) / "attempts.jsonl"
    lines = [{**json.loads(line), "task_set_sha256": "old"} for line in samples.read_text().splitlines()]
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (error,) = study.run(part(jobs(tmp_path, declared), [], ["prefix"]), declared, Progress(), quiet).values()
    assert f"{len(lines)} records of {samples} are of another version of helpdesk: bring the task set" in str(error)


class World:
    """As far as a study asks for it."""

    def __init__(self, sha256):
        self.task_set = Namespace(sha256=sha256) if sha256 else None


def test_cells_of_different_versions_of_a_task_set_are_no_study(tmp_path):
    declared = study_files.settings(seeds=2)
    declared.write(tmp_path)
    cells, model = Cells(tmp_path, declared), {n: [True, False] for n in range(4)}
    study_files.cell(Job(tmp_path, 0, START), model)
    assert cells.results()[START][0].task_set_sha256 == "", "of a domain"
    study_files.cell(Job(tmp_path, 0, BASELINE), model, task_set_sha256="a")
    cells.see_that_they_are_of(World("a"))
    for here in ("b", ""):
        with pytest.raises(ConfigError, match=r"seed 0, gated of .* is of version a of helpdesk, and (b|a domain) is"):
            cells.see_that_they_are_of(World(here))
    study_files.cell(Job(tmp_path, 1, BASELINE), model, task_set_sha256="b")
    with pytest.raises(ConfigError, match=r"seed 0, gated and seed 1, gated of .* are of different versions"):
        write_report(tmp_path, Console(quiet=True))


@pytest.mark.parametrize(
    "setting, said",
    [("seed=3", "--set seed: a study has seeds 0 to 4; --seed N"), ("eval_tasks=0", "eval_tasks = 0: Input should be")],
)
def test_a_setting_that_a_study_cannot_have_is_refused_before_anything_is_trained(setting, said, cli, tmp_path):
    code, _, error = cli("study", "--output", tmp_path / "s", "--set", setting)
    assert code == 2 and said in error and not (tmp_path / "s").exists()


def test_the_forecast_is_of_measured_cells(tmp_path):
    cells = jobs(tmp_path, study_files.settings(seeds=1))
    assert forecast(cells, cells).startswith(f"0 of {len(cells)} cells are there") and "(expected)" in forecast(
        cells, cells
    )
    for job in cells[:3]:
        study_files.cell(job, {n: [True, False] for n in range(4)})
    told = forecast(cells, cells[3:])
    hours = (len(cells) - 3) * 600 / 3600
    assert f"about {hours:.1f} h" in told and "start 10.0, GRPO 10.0, RFT 10.0" in told
    for job in cells[:3]:
        Cells(tmp_path, study_files.settings(seeds=1)).result(job)
        (job.directory / layout.USAGE).unlink()
    assert forecast(cells, cells[3:]) == told, "of results alone, as a study is published"


# What is spent


def test_spending_counts_what_was_sampled_and_trained_on(tmp_path):
    study_files.rollouts(tmp_path, [0.0, 0.5])
    lines = (tmp_path / layout.METRICS_FILE).read_text().splitlines()
    (tmp_path / layout.METRICS_FILE).write_text("\n".join([*lines, lines[1]]) + "\n")  # a rollout was made again
    spent, curve = spending.spent(tmp_path, "grpo")
    assert (spent.episodes, spent.sampled_tokens, spent.sequences, spent.trained_tokens) == (200, 8000, 128, 256)
    assert curve == [(100, 4000, 0.0), (200, 8000, 0.5)] and (spent.steps, spent.epochs, spent.eased) == (2, 1.0, 1)
    study_files.rft(tmp_path, tasks=10, attempts=3, sequences=64)
    spent, curve = spending.spent(tmp_path, "rft")
    assert (spent.episodes, spent.sampled_tokens, spent.sequences, spent.trained_tokens) == (30, 1200, 64, 1920)
    assert spent.epochs == 6.4 and curve == [(30, 1200, pytest.approx(1 / 3))]
    assert spending.spent(tmp_path / "nothing", "grpo")[0].episodes == 0


def test_a_result_of_an_earlier_version_gets_what_it_lacks_where_the_cell_is_still_there(tmp_path):
    declared = study_files.settings(seeds=1)
    declared.write(tmp_path)
    job, cells = Job(tmp_path, 0, CONTROL), Cells(tmp_path, declared)
    study_files.cell(job, {n: [n < 2, False] for n in range(4)})
    whole, path = cells.result(job), job.directory / "result.json"
    assert (whole.selected["tasks with a success"], whole.selected["kept"]) == (100, 100)
    old = json.loads(path.read_text())
    del old["selected"]
    path.write_text(json.dumps({**old, "wall_s": 1.0}))
    assert cells.result(job) == whole.model_copy(update={"wall_s": 1.0}), "what was said stays as it was"
    assert json.loads(path.read_text())["selected"] == whole.selected
    path.write_text(json.dumps(old))
    (job.directory / "eval" / "rft" / "summary.json").unlink()
    assert cells.result(job).selected == {} and json.loads(path.read_text()) == old, "nothing to make it from"


def test_a_training_in_equal_parts():
    curve = [Point(100 * n, 1000 * n, n / 10) for n in range(1, 11)]
    parts = study_curves.parts([curve], "episodes")
    assert [p.up_to for p in parts] == [200, 400, 600, 800, 1000]
    assert [p.success for p in parts] == pytest.approx([0.15, 0.35, 0.55, 0.75, 0.95])
    uneven = [Point(100, 900, 0.0), Point(500, 1000, 1.0)]  # many tokens at first, and many episodes later
    assert [p.success for p in study_curves.parts([uneven], "episodes")] == pytest.approx([0, 1, 1, 1, 1])
    by_tokens = study_curves.parts([uneven], "tokens")
    assert [p.success for p in by_tokens] == pytest.approx([0, 0, 0, 0, 400 / (400 + 100 / 9)])
    mean = study_curves.parts([curve, [Point(p.episodes, p.tokens, 0.0) for p in curve]], "episodes")
    assert [p.success for p in mean] == pytest.approx([p.success / 2 for p in parts])
    assert study_curves.parts([curve, curve[:1]], "episodes") == [], "RFT samples once"


# What a study shows


@dataclass
class Result:
    """What a difference reads of a result."""

    successes: dict[int, list[bool]]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(estimators, "RESAMPLES_OVER_SEEDS", 250)


def test_a_whole_study_says_what_is_true_of_it(tmp_path):
    rng, console = np.random.default_rng(0), Console(record=True, width=200, file=open(os.devnull, "w"))
    study_files.study(rng, tmp_path, study_files.settings(), {START: 0.2, BASELINE: 0.5, "none": 0.5, "card": 0.25})
    write_report(tmp_path, console)
    report = json.loads((tmp_path / "report.json").read_text())
    primary = report["primary"]
    assert primary["what"] == "gated − rft_continued" and len(primary["seeds"]) == 5
    assert primary["method"] == "hierarchical" and 0 < primary["low"] < 0.2 < primary["high"]
    assert 0.01 < primary["smallest effect"] < 0.2
    secondary = report["secondary"]
    assert len(secondary["none − gated"]["seeds"]) == 3 and secondary["card − gated"]["high"] < 0
    assert secondary["none − gated"]["low"] < 0 < secondary["none − gated"]["high"]
    assert secondary["gated − start"]["low"] > 0.1 and "prefix − curriculum" in secondary
    assert report["results"][BASELINE]["pass^1"]["value"] == pytest.approx(0.5, abs=0.08)
    assert set(report["control's budget over the baseline's"]["sequences"].values()) == {1.0}
    told = console.export_text()
    assert "PARTIAL" not in told and "5 of 5 seeds" in told and "primary: gated − rft_continued" in told
    assert (tmp_path / "study.svg").read_text().count("gated") > 1
    assert report["cells"]["ended"] == report["cells"]["of"] == 15 + 3 * (len(CELLS) - 3)


def test_a_study_without_an_effect_says_so(tmp_path):
    study_files.study(np.random.default_rng(1), tmp_path, study_files.settings(), {})
    write_report(tmp_path, Console(quiet=True))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["primary"]["low"] < 0 < report["primary"]["high"]
    assert abs(report["primary"]["value"]) < report["primary"]["smallest effect"]


def test_the_smallest_effect_is_shown_four_times_in_five():
    """Of studies whose true effect it is; here 3 points between seeds, 10 between tasks."""
    rng = np.random.default_rng(0)
    pair = lambda effect: simulated_seeds.pair(  # noqa: E731
        rng, seeds=5, tasks=60, effect=effect, between_seeds=0.03, between_tasks=0.1
    )

    def difference(effect):
        cells = [{s: Result(model) for s, model in enumerate(models)} for models in pair(effect)]
        return Difference.between("b", "a", dict(zip("ab", cells)), "pass^1")

    smallest = np.mean([difference(0.1).smallest for _ in range(10)])
    shown = np.mean([difference(smallest).pooled.low > 0 for _ in range(60)])
    assert 0.63 < shown < 0.95, "within what chance does to 60 studies"


def test_differences_are_over_the_seeds_that_both_have(tmp_path):
    declared = study_files.settings(seeds=3)
    declared.write(tmp_path)
    for seed, name, rate in ((0, BASELINE, 4), (1, BASELINE, 2), (1, CONTROL, 1), (2, CONTROL, 3)):
        model = {n: [a < rate for a in range(4)] for n in range(6)}
        study_files.cell(Job(tmp_path, seed, name), model)
    console = Console(record=True, width=200, file=open(os.devnull, "w"))
    write_report(tmp_path, console)
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["primary"]["seeds"]) == ["1"] and report["primary"]["value"] == pytest.approx(0.25)
    assert report["results"][BASELINE]["by seed"] == {"0": 1.0, "1": 0.5}
    assert "1 of 3 seeds (PARTIAL: 4 of" in console.export_text()


def test_a_report_of_the_same_cells_is_the_same_files_and_cuts_no_name(tmp_path):
    declared = study_files.settings(seeds=1)
    declared.write(tmp_path)
    for name in (BASELINE, CONTROL, "group_4", "group_16"):
        study_files.cell(Job(tmp_path, 0, name), {n: [n < 3, False] for n in range(6)})
    made = []
    for _ in range(2):
        console = Console(record=True, width=80, file=open(os.devnull, "w"))
        write_report(tmp_path, console)
        made.append((tmp_path / "study.svg").read_bytes())
        made.append((tmp_path / "report.json").read_bytes())
        rows = [line.split()[1] for line in console.export_text().splitlines() if line.startswith("│ ")]
        assert rows.count("group_16") == rows.count("group_4") >= 4 and "group_…" not in rows
    assert made[:2] == made[2:]


def test_a_study_without_a_cell_says_so(tmp_path):
    study_files.settings().write(tmp_path)
    with pytest.raises(ConfigError, match=r"no cell of .* has ended; run: slime-tau2 study"):
        write_report(tmp_path, Console(quiet=True))


def test_exploits_by_hand():
    schemas = [{"function": {"name": "get", "parameters": {"required": ["id"]}}}, {"function": {"name": "list"}}]
    required = required_arguments(schemas)
    call = lambda role, name, **arguments: {"role": role, "tool_calls": [{"name": name, "arguments": arguments}]}  # noqa: E731
    said = [
        call("assistant", "get"),
        call("assistant", "get", id="1"),
        call("assistant", "get", id="1"),
        call("assistant", "list"),
        call("user", "get"),
        call("assistant", "unknown"),
        {"role": "assistant", "content": "bye"},
    ]
    assert exploits(said, required) == Exploits(calls=5, incomplete=1, repeated=1)
