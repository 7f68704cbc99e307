"""docs/study and docs/study_again: the results of the study on cases, and of the second one. What the cookbook says of
them is in them.

`slime-tau2 report docs/study` makes report.json and study.svg of them and prints what the cookbook's tables hold.
"""

import json
import re
import shutil
import statistics
from math import isnan
from pathlib import Path

import pytest

from slime_tau2 import files
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.experiments.study_cells import Cells
from slime_tau2.experiments.study_grid import PIPELINE, StudySettings
from slime_tau2.experiments.study_results import StudyReport

ROOT = Path(__file__).parents[2]
STUDY, AGAIN = ROOT / "docs" / "study", ROOT / "docs" / "study_again"
COOKBOOK = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
SECTION = COOKBOOK[COOKBOOK.index("### What it showed") : COOKBOOK.index("## What three seeds showed")]
WORDS = " ".join(SECTION.split())


def read(directory):
    settings = files.read_as(directory / StudySettings.FILE, StudySettings, complete=True)
    return StudyReport.of(directory, settings, Cells(directory, settings).results())


@pytest.fixture(scope="module")
def report():
    return read(STUDY)


@pytest.fixture(scope="module")
def second():
    return read(AGAIN)


@pytest.mark.parametrize("directory, seeds", [(STUDY, 5), (AGAIN, 3)])
def test_it_was_declared_as_the_command_declares_one(directory, seeds):
    """Whatever becomes of the quickstart's defaults, the study that is published can be gone on with."""
    told = files.read_as(directory / StudySettings.FILE, StudySettings, complete=True)
    pipeline = PipelineSettings(**PIPELINE).model_dump(mode="json", exclude={"seed"})
    assert told == StudySettings(seeds=seeds, pipeline=pipeline)


def numbers(text):
    """The numbers of a cell of a table."""
    return [float(n) for n in re.findall(r"[+-]?\d+(?:\.\d+)?", text.replace("−", "-").replace(",", ""))]


def table(title, head=False):
    """{first cell: the others} of the cookbook's table under a heading of its first column; or the other headings."""
    (found,) = [part for part in SECTION.split("\n\n") if part.startswith(f"| {title} |")]
    first, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines())
    return first[1:] if head else {row[0].strip("`*"): row[1:] for row in rows}


def of(estimate):
    return pytest.approx([100 * v for v in (estimate.value, estimate.low, estimate.high)], abs=0.051)


@pytest.mark.parametrize("title, which", [("cell", "report"), ("second study", "second")])
def test_the_cookbooks_scores_are_those_of_the_published_results(title, which, request):
    shown, report = table(title), request.getfixturevalue(which)
    assert set(shown) == set(report.rows)
    for name, (seeds, *metrics, each) in shown.items():
        row = report.rows[name]
        assert int(seeds) == len(row.by_seed)
        for metric, cell in zip(("pass^1", "pass@4", "pass^4"), metrics):
            assert numbers(cell) == of(row.metrics[metric]), (name, metric)
        assert seeds_of(each) == pytest.approx([100 * v for v in row.by_seed.values()], abs=0.051)


def seeds_of(cell):
    """The numbers of a cell that has one for each seed."""
    return [value for part in cell.split(", ") for value in numbers(part)]


@pytest.mark.parametrize("title, which", [("difference in pass^1", "report"), ("second study, difference", "second")])
def test_the_cookbooks_differences_are_those_of_the_published_results(title, which, request):
    shown, report = table(title), request.getfixturevalue(which)
    differences = {d.name: d for d in (report.primary, *report.secondary)}
    assert set(shown) == set(differences)
    for name, (pooled, each, smallest) in shown.items():
        difference = differences[name]
        assert numbers(pooled) == of(difference.pooled), name
        assert seeds_of(each) == pytest.approx([100 * e.value for e in difference.by_seed.values()], abs=0.051)
        if isnan(difference.smallest):
            assert smallest == "–" and len(difference.by_seed) == 1
        else:
            assert numbers(smallest) == pytest.approx([100 * difference.smallest], abs=0.051)


def mean(row, field):
    """Of what a cell's seeds spent."""
    return statistics.fmean(getattr(spent, field) for spent in row.spending.values())


def test_the_cookbooks_budgets_are_those_of_the_published_results(report):
    assert "equal to 4 % in episodes, sampled tokens and sequences; RFT trained on a fifth fewer tokens" in WORDS
    for what in ("episodes", "sampled_tokens", "sequences"):
        assert all(abs(ratio - 1) < 0.04 for ratio in report.budgets[what].values()), what
    assert statistics.fmean(report.budgets["trained_tokens"].values()) == pytest.approx(0.8, abs=0.05)
    shown = table("means of the seeds")
    assert set(shown) == set(report.rows)
    for name, cells in shown.items():
        row, kept = report.rows[name], report.rows[name].selected
        episodes, *selected, sequences, epochs, minutes = (numbers(cell) for cell in cells)
        assert episodes == pytest.approx([mean(row, "episodes")], abs=0.51)
        assert sequences == pytest.approx([mean(row, "sequences")], abs=0.51)
        assert epochs == pytest.approx([mean(row, "epochs")], abs=0.051)
        assert minutes == pytest.approx([statistics.fmean(row.wall_s.values()) / 60], abs=0.51)
        counts = ("tasks", "tasks with a success", "tasks kept by partial score", "kept")
        assert selected == [pytest.approx([kept[c]], abs=0.51) if kept else [] for c in counts], name


def test_the_cookbooks_words_are_true_of_the_published_results(report):
    rate = {name: row.metrics["pass^1"].value for name, row in report.rows.items()}
    assert 3 < rate["gated"] / rate["start"] < 4, "more than three times as many"
    assert 1.75 < rate["gated"] / rate["rft_continued"] < 2, "almost twice as many"
    assert all(e.value > 0 for e in report.primary.by_seed.values()), "ahead in every seed"
    kept = report.rows["rft_continued"].selected
    assert kept["attempts"] / kept["kept"] == pytest.approx(11, abs=0.5), "one in eleven"
    won = kept["kept"] - kept["tasks kept by partial score"]
    assert won / kept["kept"] == pytest.approx(2 / 3, abs=0.03), "two thirds of them successes"
    assert kept["tasks with a success"] / kept["tasks"] == pytest.approx(1 / 3, abs=0.03), "a third of the cases"
    assert kept["attempts"] / kept["tasks"] == pytest.approx(21, abs=0.5), "among 21 attempts"
    others = kept["tasks"] - kept["tasks with a success"]
    assert kept["tasks kept by partial score"] > 0.9 * others, "of most of the others it keeps the best failure"


def test_the_readme_says_the_same(report):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    pooled = report.primary.pooled
    value, low, high = (f"{100 * v:.1f}" for v in (pooled.value, pooled.low, pooled.high))
    rate = {name: f"{100 * row.metrics['pass^1'].value:.1f}" for name, row in report.rows.items()}
    assert f"it ended {value} points [{low}, {high}] above a second round of RFT" in readme
    assert f"({rate['gated']} against {rate['rft_continued']} %, from {rate['start']} %;" in readme


def test_the_cookbooks_learning_curves_are_those_of_the_published_results(report):
    shown = table("success on train cases, %")
    for name, fifths in shown.items():
        cell, _, axis = name.partition("`, by ")
        parts = report.rows[cell].learning[axis]
        assert [n for value in fifths for n in numbers(value)] == pytest.approx(
            [100 * part.success for part in parts], abs=0.051
        )
    assert len(shown) == 2


def test_what_the_cookbook_says_of_held_out_episodes_is_of_the_published_results(report):
    shown, names = table("held-out episodes"), table("held-out episodes", head=True)
    sources = {
        "a wrong argument lost it, %": lambda row: 100 * row.failures.get("wrong argument", 0.0),
        "a forbidden write lost it, %": lambda row: 100 * row.failures.get("forbidden write", 0.0),
        "a write that the agent did not make lost it, %": lambda row: (
            100 * row.failures.get("missing write, the agent's", 0.0)
        ),
        "it ran out of tokens or steps, %": lambda row: 100 * row.failures.get("ran out", 0.0),
        "a write beyond the solution, %": lambda row: 100 * row.held_out["forbidden writes in"],
        "a refusal without need, %": lambda row: 100 * row.held_out["refused without need in"],
        "such writes in each": lambda row: row.held_out["forbidden writes"],
        "the agent's turns": lambda row: row.held_out["turns"],
        "tokens that it sampled": lambda row: row.held_out["tokens"],
        "its calls": lambda row: row.held_out["calls"],
    }
    assert set(shown) == set(sources)
    for what, cells in shown.items():
        for name, cell in zip(names, cells, strict=True):
            decimals = len(cell.partition(".")[2])
            assert numbers(cell) == [round(sources[what](report.rows[name]), decimals)], (what, name)


def test_success_by_the_number_of_requests_is_of_the_published_results(report):
    shown, names = table("requests"), table("requests", head=True)[1:]
    assert {f"helpdesk_cases{n}" for n in shown} == set(report.rows["gated"].families)
    for requests, (cases, *cells) in shown.items():
        for name, cell in zip(names, cells, strict=True):
            estimate = report.rows[name].families[f"helpdesk_cases{requests}"]
            assert int(cases) == estimate.tasks and numbers(cell) == of(estimate), (requests, name)


def flat(value, path=""):
    """{path: scalar} of what a JSON file holds."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {p: v for key, part in items for p, v in flat(part, f"{path}/{key}").items()}
    return {path: value}


@pytest.mark.parametrize("directory, which", [(STUDY, "report"), (AGAIN, "second")], ids=["first", "second"])
def test_the_command_writes_the_published_report_and_prints_it(directory, which, cli, tmp_path, monkeypatch, request):
    """`slime-tau2 report docs/study`, on a copy, with what the fixture has computed from the same files."""
    monkeypatch.setenv("COLUMNS", "200")
    computed = request.getfixturevalue(which)
    monkeypatch.setattr(StudyReport, "of", lambda *_: computed)
    shutil.copytree(directory, tmp_path / "study")
    code, out, err = cli("report", tmp_path / "study")
    assert code == 0, err
    made, published = (flat(json.loads((d / "report.json").read_text())) for d in (tmp_path / "study", directory))
    text = {path for path, value in published.items() if isinstance(value, str | None)}
    assert made.keys() == published.keys() and all(made[path] == published[path] for path in text)
    numeric = made.keys() - text
    assert [made[path] for path in numeric] == pytest.approx(
        [published[path] for path in numeric], abs=1e-9, nan_ok=True
    )
    for said in ("What RFT selects", "by family of tasks", "equal parts of a training", "refusals and writes"):
        assert said in out
    plot = (tmp_path / "study" / "study.svg").read_text()
    for said in ("episodes sampled", "tokens sampled", "turns", "refusal without need", "write beyond the solution"):
        assert said in plot and said in (directory / "study.svg").read_text()


def test_the_cookbooks_minutes_are_those_of_the_second_study(second):
    minutes = {"start": [], "grpo": [], "rft": []}
    for name, row in second.rows.items():
        kind = "start" if name == "start" else "rft" if name.startswith("rft") else "grpo"
        minutes[kind] += [wall_s / 60 for wall_s in row.wall_s.values()]
    page = " ".join(COOKBOOK.split())
    said = {kind: f"{min(each):.0f} to {max(each):.0f}" for kind, each in minutes.items()}
    assert f"a GRPO cell of the second study took {said['grpo']} minutes" in page
    assert f"A start took {said['start']} and a second round of RFT {said['rft']}" in page


def test_the_cookbooks_words_are_true_of_the_second_study(second):
    assert second.ended == second.cells == 36
    rows, differences = second.rows, {d.name: d for d in (second.primary, *second.secondary)}
    every = {name for name, d in differences.items() if set(d.by_seed) == {0, 1, 2}}
    assert every == set(differences), "three seeds of each"
    assert all(e.value > 0 for e in second.primary.by_seed.values()) and second.primary.pooled.low > 0
    shaping, successes = differences["none − gated"], differences["rft_successes − rft_continued"]
    assert all(e.value < 0 for e in shaping.by_seed.values()) and shaping.pooled.high < 0
    assert all(e.value > 0 for e in successes.by_seed.values()) and successes.pooled.low > 0
    for seed, spent in rows["none"].spending.items():
        assert f"{spent.sequences:,} of {spent.episodes:,} episodes in seed {seed}" in WORDS
    assert all(spent.sequences > 0.9 * spent.episodes for spent in rows["gated"].spending.values()), "nine in ten"
    shown = {"gated − start", "rft_continued − start", shaping.name, successes.name, second.primary.name}
    assert all(d.pooled.low < 0 < d.pooled.high for name, d in differences.items() if name not in shown)
    ahead = [100 * (gated - rows["rft_successes"].by_seed[n]) for n, gated in rows["gated"].by_seed.items()]
    (said,) = re.findall(r"`gated` is ahead of it too, by (.*?) points, seed by seed", WORDS)
    assert numbers(said) == pytest.approx(ahead, abs=0.051) and min(ahead) > 0
    last = rows["curriculum"].learning["episodes"][-1].success
    assert f"won {100 * last:.0f} % of its last fifth of draws" in WORDS
    for seed, spent in rows["prefix"].spending.items():
        assert f"{spent.eased} of {spent.episodes:,} episodes in seed {seed}" in WORDS
        assert spent.eased < spent.episodes / 100, "hardly any case"
