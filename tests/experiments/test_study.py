"""The study: its grid runs, resumes, and says of hand-made runs what is true of them."""

import json
import subprocess
import sys

import pytest
import run_files
from rich.console import Console

from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import estimators
from slime_tau2.evaluation.exploits import Exploits, exploits, required_arguments
from slime_tau2.experiments import study_results
from slime_tau2.experiments.study_grid import VARIANTS, StudySettings, jobs
from slime_tau2.experiments.study_report import write_report

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
    "eval_attempts=2",
    "max_turn_tokens=12",
    "max_response_tokens=120",
]


def command(output, *options):
    sizes = [x for s in SIZES for x in ("--set", s)]
    return subprocess.run(
        [sys.executable, "-m", "slime_tau2.cli", "study", "--smoke", "--output", str(output), *sizes, *options],
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_small_grid_runs_resumes_and_refuses_another(tmp_path):
    output, chosen = tmp_path / "study", ("--variant", "none", "--variant", "rft_continued")
    done = command(output, *chosen)
    assert done.returncode == 0, done.stderr
    report = json.loads((output / "report.json").read_text())
    assert set(report["variants"]) == {"gated", "none", "rft_continued"} and report["noise"]["repeats"] == 2
    assert set(report["paired"]) == {"SFT − BASE", "RFT − SFT", "GRPO − RFT", "GRPO − rft_continued"}
    assert (
        report["primary"]["what"] == "gated − none in pass^1"
        and report["variants"]["none"]["episodes sampled"]["0"] > 0
    )
    assert "primary, declared before the run" in done.stdout and (output / "study.svg").read_text().startswith("<svg")
    weights = output / "seed_0" / "variants" / "none" / "grpo" / "model" / "model.safetensors"
    before = weights.read_bytes()
    again = command(output, *chosen)
    assert again.returncode == 0 and weights.read_bytes() == before and "GRPO, 2 groups" not in again.stdout
    other = command(output, "--variant", "none")
    assert other.returncode == 2 and "holds a study with other settings (variants)" in other.stderr
    unknown = command(tmp_path / "x", "--variant", "nope")
    assert (
        unknown.returncode == 2
        and "error: --variant: variants = ('nope',): there is no variant 'nope'" in unknown.stderr
    )


def test_the_grid_is_whole_and_starts_with_what_every_seed_has(tmp_path):
    cells = jobs(tmp_path, StudySettings(seeds=3))
    assert [c.name for c in cells[:3]] == ["gated"] * 3 and len({c.directory for c in cells}) == len(cells)
    everywhere = sum(v.every_seed for v in VARIANTS.values())
    assert len(cells) == 3 + 3 * everywhere + len(VARIANTS) - everywhere
    assert {c.name for c in cells} == {"gated", *VARIANTS}
    order = [c.name for c in cells]
    assert all(v.start not in VARIANTS or order.index(v.start) < order.index(n) for n, v in VARIANTS.items()), (
        "what it starts from is there"
    )
    with pytest.raises(ValueError, match="starts from weak; name that one, too"):
        StudySettings(variants=("weak_tau2",))
    for variant in VARIANTS.values():  # a setting that does not exist fails here, not after an hour
        StudySettings().of_seed(1, **variant.settings)


def run_of(directory, stage, rates, attempts=4):
    """A run whose task n succeeds in rates[n] of its attempts."""
    evaluated = directory / "eval" / stage
    rewards = {f"orders_{n}": [float(a < rate * attempts) for a in range(attempts)] for n, rate in enumerate(rates)}
    run_files.write(evaluated, {"helpdesk": rewards}, more={"partial": 0.5})
    (evaluated / "summary.json").write_text("{}")


def log_of(directory, rates, episodes=100):
    lines = [
        {"stage": "grpo", "step": n, "rollout/episodes": episodes, "rollout/success": rate}
        for n, rate in enumerate(rates)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_differences_are_paired_and_pooled_over_the_seeds_that_both_have(tmp_path):
    settings = StudySettings(seeds=2, repeats=0, variants=("none",))
    settings.write(tmp_path)
    for seed, gain in ((0, 0.5), (1, 0.25)):
        origin = tmp_path / f"seed_{seed}"
        for stage in ("base", "sft", "rft"):
            run_of(origin, stage, [0.0] * 4)
        run_of(origin, "grpo", [gain] * 4)
        log_of(origin, [0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.8, 0.8])
    run_of(tmp_path / "seed_1" / "variants" / "none", "grpo", [0.0, 0.0, 0.5, 0.5])
    log_of(tmp_path / "seed_1" / "variants" / "none", [0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4])
    write_report(tmp_path, Console(quiet=True))
    report = json.loads((tmp_path / "report.json").read_text())
    assert (
        report["stages"]["grpo"]["pass^1"]["value"] == pytest.approx(0.375)
        and report["paired"]["GRPO − RFT"]["tasks"] == 4
    )
    assert report["primary"]["value"] == pytest.approx(0.0) and list(report["primary"]["seeds"]) == ["1"]
    assert report["variants"]["gated"]["episodes to the plateau"] == {"1": 500}, (
        "`none` ends at 0.325, which means of four reach here"
    )
    assert report["variants"]["none"]["episodes to the plateau"] == {"1": 800} and report["noise"] is None


def test_a_study_without_a_run_says_so(tmp_path):
    StudySettings().write(tmp_path)
    with pytest.raises(ConfigError, match=r"no pipeline of .* has finished"):
        write_report(tmp_path, Console(quiet=True))


def test_curves():
    curve = [(100, 0.1), (200, 0.9), (300, 0.2), (400, 0.3), (500, 0.5), (600, 0.5), (700, 0.6), (800, 0.8)]
    assert study_results.plateau(curve) == pytest.approx(0.7)
    assert study_results.reached(curve, 0.5) == 500 and study_results.reached(curve, 0.9) is None


def test_metric_by_task():
    successes = {"a": [True, True, False, False]}
    assert estimators.by_task(successes, "pass^1") == {"a": 0.5} and estimators.by_task(successes, "pass@2")[
        "a"
    ] == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="neither pass@k nor"):
        estimators.by_task(successes, "avg")


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
