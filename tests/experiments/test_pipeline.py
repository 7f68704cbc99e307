"""The whole pipeline, small: every stage for real, resumable at any moment."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import page_blocks
import pytest

from slime_tau2.episode.conversation import unplayed
from slime_tau2.evaluation import plan
from slime_tau2.experiments import pipeline
from slime_tau2.experiments.episodes import Episodes
from slime_tau2.experiments.settings import SMOKE, PipelineSettings
from slime_tau2.experiments.watch import Progress
from slime_tau2.local.batches import length_bucketed
from slime_tau2.rollouts.found import find
from slime_tau2.rollouts.reader import Reader
from slime_tau2.types import Outcome

SIZES = [
    "traces=60",
    "sft_steps=6",
    "rft_steps=2",
    "rft_tasks=30",
    "rft_attempts=1",
    "grpo_steps=2",
    "grpo_groups=2",
    "grpo_group_size=2",
    "eval_tasks=6",
]
SIZES += ["eval_attempts=1", "max_turn_tokens=12", "max_response_tokens=120"]


def arguments(output, sizes=SIZES):
    return ["quickstart", "--smoke", "--output", str(output), *(x for s in sizes for x in ("--set", s))]


def command(output):
    return [sys.executable, "-m", "slime_tau2.cli", *arguments(output)]


PLANTED = {name: f"planted-{name.lower()}" for name in ("OPENAI_API_KEY", "WANDB_API_KEY", "HF_TOKEN")}


def run(output):
    return subprocess.run(command(output), capture_output=True, text=True, timeout=600, env={**os.environ, **PLANTED})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run's directory, its end, and the command lines of all processes that lived while it ran."""
    output, seen, over = tmp_path_factory.mktemp("run") / "quickstart", set(), threading.Event()

    def watch():
        while not over.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = run(output)
    finally:
        over.set()
        watcher.join()
    done.command_lines = seen
    return output, done


def test_it_runs_end_to_end_and_reports(finished):
    output, done = finished
    assert done.returncode == 0, done.stderr
    report = json.loads((output / "report.json").read_text())
    assert list(report["stages"]) == ["base", "sft", "rft", "grpo"]
    assert (
        set(report["stages"]["grpo"]) == {"overall", "orders", "refunds", "phones"}
        and "pass@1" in report["stages"]["grpo"]["overall"]
    )
    assert (
        report["token_mismatches"] == 0
        and report["audited_episodes"] > 0
        and report["wall_s"] > 0
        and report["peak_rss_mib"] > 100
    )
    index = page_blocks.block(output / "report.html", "index")
    assert [run["name"] for run in index["runs"]] == ["base", "sft", "rft", "grpo"] and len(index["curves"]) == 2
    drawn = {chart["title"]: len(chart["curves"]) for chart in index["training"]}
    assert drawn == {"SFT and RFT": 2, "GRPO": 2, "Length of GRPO's episodes": 2}
    assert "default-src 'none'" in (output / "report.html").read_text(), "no network"
    stages = {json.loads(line)["stage"] for line in (output / "metrics.jsonl").read_text().splitlines()}
    assert stages == {"sft", "rft", "grpo"}


def test_its_rollouts_can_be_read(finished, cli):
    """Sampler and trainer are one model on one machine: their log-probs lie where float order puts them."""
    output, *_ = finished
    code, out, _ = cli("rollouts", output)
    assert code == 0 and "2 rollouts" in out and (output / "rollouts.html").exists()
    reader = Reader(find(output))
    reader.refresh()
    index = reader.index()
    rows = [dict(zip(index["sample_fields"], row)) for row in index["samples"]]
    told = [row for row in rows if row["trainer"] is not None]
    assert told and all(row["apart"] < 1e-4 and row["advantage"] is not None for row in told)
    assert {step["others"] for step in index["steps"]} == {0}
    (output / "rollouts.html").unlink()


def test_its_report_goes_where_it_is_told_to(finished, cli, tmp_path):
    output, _ = finished
    before = (output / "report.html").stat().st_mtime_ns
    code, out, error = cli("report", output, "--output", tmp_path / "x.html")
    assert code == 0 and f"report: {tmp_path / 'x.html'}" in out, error
    assert len(page_blocks.block(tmp_path / "x.html", "index")["runs"]) == 4
    assert (output / "report.html").stat().st_mtime_ns == before, "the quickstart's own page is left alone"


def test_its_evaluations_are_compared_with_evals(finished, cli, tmp_path):
    """What the quickstart recorded and what `eval` records say the same of how they were scored, and refuse by what
    matters.
    """
    output, _ = finished
    tasks = [w for t in plan.read(output / "eval" / "grpo").sets[0].tasks[:2] for w in ("--task", t)]
    model = output / "grpo" / "model"
    for name, steps in (("alike", 120), ("longer", 200)):
        command = (
            "eval",
            "--policy",
            model,
            *tasks,
            "--attempts",
            "1",
            "--set",
            f"max_steps={steps}",
            "--set",
            "max_turn_tokens=16",
        )
        assert cli(*command, "--output", tmp_path / name)[0] == 0
    code, out, error = cli("compare", output / "eval" / "grpo", tmp_path / "alike")
    assert code == 0 and "compared on 2 tasks" in out and "does not say" not in out, error
    code, _, error = cli("compare", output / "eval" / "grpo", tmp_path / "longer")
    assert code == 2 and "not scored alike (max_steps: grpo 120, longer 200); --anyway" in error


def test_no_key_is_in_anything_that_the_run_leaves_or_shows(finished):
    output, done = finished
    assert any(b"serve" in line and b"slime_tau2" in line for line in done.command_lines), (
        "the server's process was seen"
    )
    left = [
        done.stdout.encode(),
        done.stderr.encode(),
        *done.command_lines,
        *(p.read_bytes() for p in output.rglob("*") if p.is_file()),
    ]
    assert len(left) > 30 and not any(b"planted-" in text for text in left)


def test_the_printed_snippet_loads_the_model(finished):
    _, done = finished
    snippet = done.stdout[done.stdout.index("from transformers import") :]
    ran = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert ran.returncode == 0 and "Hi" in ran.stdout, ran.stderr
    assert len(snippet.strip().splitlines()) == 3


def test_running_it_again_changes_nothing_and_other_settings_are_refused(finished, cli):
    output, _ = finished
    weights = (output / "grpo" / "model" / "model.safetensors").read_bytes()
    assert cli(*arguments(output))[0] == 0 and (output / "grpo" / "model" / "model.safetensors").read_bytes() == weights
    code, _, error = cli(*arguments(output, [*SIZES, "seed=7"]))
    assert code == 2 and "other settings (seed)" in error


def test_killed_after_its_last_evaluation_it_still_reports(finished, cli, tmp_path):
    output, _ = finished
    shutil.copytree(output, tmp_path / "q")
    for lost in ("usage.json", "report.json", "report.html"):
        (tmp_path / "q" / lost).unlink()
    code, _, error = cli(*arguments(tmp_path / "q"))
    assert code == 0, error
    assert (tmp_path / "q" / "report.json").exists() and (tmp_path / "q" / "usage.json").exists()


def test_one_server_serves_all_models_of_a_run_and_one_that_died_idle_is_replaced(tiny_model_dir, tmp_path):
    episodes, processes = Episodes(tmp_path, PipelineSettings(**SMOKE)), []
    try:
        for _ in range(3):
            with episodes.server(tiny_model_dir, []) as server:
                processes.append(server.process)
            if len(processes) == 2:
                server.process.kill()
                server.process.wait()
        assert processes[0] is processes[1] is not processes[2] and server.alive
    finally:
        episodes.close()
    assert not server.alive


def test_the_progress_line_tells_what_has_no_score_from_what_was_lost(tmp_path):
    notes = []
    episodes = Episodes(tmp_path, PipelineSettings(**SMOKE), Progress(advance=lambda *note: notes.append(note)))
    heard, episode = episodes._watch(5), unplayed(episodes.world, episodes.world.task("orders_0"), 0)
    for outcome in (None, Outcome(1.0, 1.0, {}, {}), Outcome(0.0, 0.0, {}, {}), None):
        heard(replace(episode, outcome=outcome))
    assert [done for done, _ in notes] == [6, 7, 8, 9]
    assert [note.rpartition("  ")[0] for _, note in notes] == [
        "reward – (1 without a score)",
        "reward 1.00 (1 without a score)",
        "reward 0.50 (1 without a score)",
        "reward 0.50 (2 without a score)",
    ]


@pytest.mark.exhaustive
def test_kill_9_at_any_moment_and_the_same_command_resumes(finished, tmp_path):
    """Killed every few seconds until it is through; SFT's and RFT's models are bit for bit those of the run that was
    never killed.
    """
    output, _ = finished
    kills, pause = 0, 6.0
    while not (tmp_path / "q" / "report.json").exists():
        assert kills < 40
        process = subprocess.Popen(
            command(tmp_path / "q"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            _, errors = process.communicate(timeout=pause)
            assert process.returncode == 0, errors
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills, pause = kills + 1, pause + 1.0
    assert kills >= 2
    for stage in ("base", "sft", "rft"):
        whole, resumed = (d / stage / "model" / "model.safetensors" for d in (output, tmp_path / "q"))
        assert whole.read_bytes() == resumed.read_bytes(), stage
    # GRPO keeps the groups that finish first, so only its course is the same: every step once, in order
    steps = [json.loads(line) for line in (tmp_path / "q" / "metrics.jsonl").read_text().splitlines()]
    assert {s["step"] for s in steps if s["stage"] == "grpo"} == {1, 2} and (tmp_path / "q" / "grpo" / "model").is_dir()


@pytest.mark.exhaustive
def test_ctrl_c_leaves_a_resumable_run(tmp_path):
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731 (a shell's background jobs are deaf to Ctrl-C)
    process = subprocess.Popen(
        command(tmp_path / "q"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hear
    )
    while not (tmp_path / "q" / "base" / "model").is_dir():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command resumes" in errors
    done = run(tmp_path / "q")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("sequences, rows", [(96, 10), (100, 40), (3072, 500), (7, 300)])
def test_rft_trains_on_as_many_sequences_as_it_is_told_to(sequences, rows):
    """An epoch's last batch is what is left of its rows, so that steps times the batch would promise too many."""
    steps, made = pipeline.steps_for(sequences, rows, 16), 0
    epoch = [len(b) for b in length_bucketed(rows, [1] * rows, 16, random.Random(0))]
    made = sum((epoch * (steps // len(epoch) + 1))[:steps])
    assert abs(made - sequences) <= 16
