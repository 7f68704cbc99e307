"""`slime-tau2 plan --study`: what a study says about the size of the next one, the published one first."""

import re
from pathlib import Path

import numpy as np
import pytest
import simulated_seeds
import study_files
from printed import rows

from slime_tau2.experiments.study_grid import BASELINE, CONTROL, START, Job

ROOT = Path(__file__).parents[2]
COOKBOOK = (ROOT / "docs" / "cookbook.md").read_text(encoding="utf-8")
SECTION = COOKBOOK[COOKBOOK.index("**What our own could") : COOKBOOK.index("## What each option does")]
WORDS = " ".join(COOKBOOK.split())


def written(heading):
    """The same of a table of the cookbook, under the heading of its first column."""
    (table,) = [part for part in SECTION.split("\n\n") if part.startswith(f"| {heading} |")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {first.partition(",")[0] if "study" in first else first: rest for first, *rest in rows}


def test_the_cookbooks_plan_is_what_the_command_prints(cli, monkeypatch):
    monkeypatch.chdir(ROOT)
    code, out, err = cli("plan", "--study", "docs/study", "--effect", 5)
    assert code == 0, err
    tasks = rows(out, "Tasks that show it")
    assert written("attempts at each") == {attempts: cells[:3] for attempts, cells in tasks.items()}
    methods = rows(out, "What shows between two methods")
    assert (table := written("cases")) == {size: methods[size] for size in table}
    rho, low, high = re.search(r"ρ is measured: ([\d.]+) \[([\d.]+), ([\d.]+)\]", out).groups()
    assert f"have ρ {rho} [{low}, {high}]" in WORDS and f"ρ = {rho}, as measured" in SECTION
    share = re.search(r"of the variance of an attempt (\d+ % \[\d+, \d+\])", out)[1]
    assert f"and {share} of an attempt's variance lies between cases" in WORDS
    rate = re.search(r"asked for: \+5 points, from ([\d.]+) to", out)[1]
    assert f"the second round of RFT is the baseline ({rate} %)" in WORDS
    seeds = {name: row[0] for name, row in rows(out, "Seeds of each method").items()}
    assert seeds == {"0.0, measured": "3", "1.0": "4", "2.0": "5", "4.0": "9"}
    assert "With 128 cases and 4 attempts, so many seeds show 5 points:" in WORDS
    needed = written("seeds differ by (points, standard deviation)")["seeds needed"]
    assert needed == list(seeds.values()) and "standard deviation) | 0 | 1 | 2 | 4 |" in WORDS
    assert f"Seeds of each method, {tasks['4'][1]} tasks × 4 attempts" in out
    costs = re.findall(r"^  \w+: ([\d.]+) M tokens sampled, .* (\d+) minutes", out, re.M)
    assert len(costs) == 3
    total, minutes = (sum(map(float, column)) for column in zip(*costs))
    assert f"1.2 M sampled tokens and {minutes:.0f} minutes" in WORDS and total == pytest.approx(1.2, abs=0.05)


def test_what_seeds_and_tasks_do_is_measured(cli, tmp_path):
    declared = study_files.settings(seeds=8)
    declared.write(tmp_path)
    rng = np.random.default_rng(0)
    known = {"seeds": 8, "tasks": 300, "effect": 0.1, "between_seeds": 0.06, "between_tasks": 0.1}
    control, cell = simulated_seeds.pair(rng, **known)
    for seed in range(8):
        for name, model in ((START, control[seed]), (CONTROL, control[seed]), (BASELINE, cell[seed])):
            study_files.cell(Job(tmp_path, seed, name), model)
    code, out, err = cli("plan", "--study", tmp_path, "--effect", 5, "--task-set", "airline")
    assert code == 0, err
    assert f"baseline rft_continued of {tmp_path}, and gated against it: helpdesk, 300 tasks" in out
    assert "× 8 models" in out and "airline test" in out
    deviation = re.search(r"from seed to seed the difference varies by ±(\d+\.\d) points", out)[1]
    assert 3 < float(deviation) < 10
    methods = rows(out, "What shows between two methods")
    assert "300" in methods and all(float(few) > float(many) for few, _, many in methods.values())
    assert "the command that made helpdesk" not in out, "the bundled domain's tasks are what they are"
    assert "gated: 32,000 tokens sampled, 1,024 trained on, 10 minutes" in out


def test_what_cannot_be_planned_from(cli, tmp_path):
    def refused(why, *arguments):
        code, _, err = cli("plan", "--effect", 5, *arguments)
        assert code == 2 and err.startswith("error: ") and why in err and err.count("\n") == 1, err

    refused("name what is to be beaten: --baseline RUN, or --study DIR")
    refused("--study DIR, one of them", "--study", tmp_path, "--baseline", tmp_path)
    refused("--against, --domain: of runs, not of a study", "--study", tmp_path, "--against", tmp_path, "--domain", "x")
    refused("study.json", "--study", tmp_path)
    declared = study_files.settings(seeds=2)
    declared.write(tmp_path)
    refused(
        f"no seed has both gated and rft_continued yet; run: slime-tau2 study --output {tmp_path}", "--study", tmp_path
    )
    for name in (CONTROL, BASELINE):
        study_files.cell(Job(tmp_path, 0, name), {n: [n % 2 == 0] for n in range(30)})
    refused("says too little of what differs between tasks", "--study", tmp_path)
