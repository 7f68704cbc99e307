"""docs/study: the results of the study on cases, as far as it has run. What the cookbook says of them is in them."""

import re
from pathlib import Path

import pytest

from slime_tau2 import files
from slime_tau2.experiments.study_cells import Cells
from slime_tau2.experiments.study_grid import StudySettings
from slime_tau2.experiments.study_results import StudyReport

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "docs" / "study"


@pytest.fixture(scope="module")
def report():
    settings = files.read_as(STUDY / StudySettings.FILE, StudySettings, complete=True)
    return StudyReport.of(STUDY, settings, Cells(STUDY, settings).results())


def numbers(text):
    """The numbers of a cell of a table, in percent."""
    return [float(n) for n in re.findall(r"[+−-]?\d+\.\d", text.replace("−", "-"))]


def table(title):
    """{first cell: the others} of the cookbook's table under a heading of its first column."""
    text = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
    section = text[text.index("### What it showed") : text.index("## What three seeds showed")]
    (found,) = [part for part in section.split("\n\n") if part.startswith(f"| {title} |")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()[2:]]
    return {row[0].strip("`*"): row[1:] for row in rows}


def of(estimate):
    return pytest.approx([100 * v for v in (estimate.value, estimate.low, estimate.high)], abs=0.051)


def test_the_cookbooks_scores_are_those_of_the_published_results(report):
    shown = table("cell")
    assert set(shown) == set(report.rows)
    for name, (seeds, *metrics, each) in shown.items():
        row = report.rows[name]
        assert int(seeds) == len(row.by_seed)
        for metric, cell in zip(("pass^1", "pass@4", "pass^4"), metrics):
            assert numbers(cell) == of(row.metrics[metric]), (name, metric)
        assert numbers(each) == pytest.approx([100 * v for v in row.by_seed.values()], abs=0.051)


def test_the_cookbooks_differences_are_those_of_the_published_results(report):
    shown = table("difference in pass^1")
    differences = {d.name: d for d in (report.primary, *report.secondary)}
    assert set(shown) == set(differences)
    for name, (pooled, each, smallest) in shown.items():
        difference = differences[name]
        assert numbers(pooled) == of(difference.pooled), name
        assert numbers(each) == pytest.approx([100 * e.value for e in difference.by_seed.values()], abs=0.051)
        assert numbers(smallest) == pytest.approx([100 * difference.smallest], abs=0.051)
