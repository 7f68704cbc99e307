"""Cells of a study as trainings leave them, made of success rates; nothing was trained."""

import json

import run_files
import simulated_seeds

from slime_tau2.experiments import directory as layout
from slime_tau2.experiments.settings import PipelineSettings
from slime_tau2.experiments.study_grid import PIPELINE, StudySettings, jobs

ROLLOUTS, EPISODES, CUT_OFF, TOKENS, TRAINED = 8, 90, 10, 4000, 64
"""Of each GRPO: rollouts, and in each of them episodes, those cut off, tokens sampled, samples trained on."""

TALK = [{"role": role, "content": "Yes."} for role in ("user", "assistant", "user", "assistant")]


def settings(seeds=5, **pipeline):
    every = PipelineSettings(**{**PIPELINE, "tasks": "helpdesk", **pipeline})
    return StudySettings(
        seeds=seeds, secondary_seeds=min(3, seeds), pipeline=every.model_dump(mode="json", exclude={"seed"})
    )


def study(rng, directory, declared, rates, tasks=60, between_seeds=0.02):
    """A whole study: each cell succeeds at `rates[name]` of the attempts (.3 where it is not named), give or take what
    a seed does, and what it does to each task.
    """
    declared.write(directory)
    of_task = rng.normal(0, 0.1, (1, tasks))
    for job in jobs(directory, declared):
        noise = rng.normal(0, between_seeds) + rng.normal(0, simulated_seeds.TASK_BY_SEED, (1, tasks))
        (model,) = simulated_seeds.models(rng, (rates.get(job.name, 0.3) + of_task + noise).clip(0, 1))
        cell(job, model)


def cell(job, model, **more):
    """One cell that has ended.

    Args:
        model: {task number: success of each attempt}.
        more: fields of its held-out records.
    """
    evaluated = layout.evaluation(job.directory, job.stage)
    rewards = {f"orders_{n}": [float(success) for success in attempts] for n, attempts in model.items()}
    run_files.write(evaluated, {"helpdesk": rewards}, more={"partial": 0.5, "sampled_tokens": 100, **more})
    (evaluated / "summary.json").write_text('{"whole": true}')
    if job.stage == "grpo":
        rollouts(job.directory, [0.1 + 0.05 * n for n in range(ROLLOUTS)])
    else:
        rft(job.directory)
    usage = layout.NO_USAGE.model_copy(update={"wall_s": 600.0})
    (job.directory / layout.USAGE).write_text(usage.model_dump_json())


def rollouts(run, success):
    """GRPO's lines of metrics.jsonl."""
    lines = [
        {
            "stage": "grpo",
            "step": n + 1,
            "rollout/episodes": EPISODES,
            "rollout/cut_off": CUT_OFF,
            "rollout/sampled_tokens": TOKENS,
            "rollout/eased": n,
            "rollout/success": rate,
            "trained_samples": TRAINED,
            "trained_tokens": 2 * TRAINED,
        }
        for n, rate in enumerate(success)
    ]
    run.mkdir(parents=True, exist_ok=True)
    (run / layout.METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))


def rft(run, tasks=100, attempts=8, sequences=ROLLOUTS * TRAINED):
    """RFT's samples, the rows that were selected, and its lines of metrics.jsonl."""
    rewards = {f"orders_{n}": [1.0] + [0.0] * (attempts - 1) for n in range(tasks)}
    run_files.write(layout.rft_samples(run), {"helpdesk": rewards}, more={"sampled_tokens": 40, "messages": TALK})
    layout.rft_data(run).write_text("{}\n" * tasks)
    lines = [
        {"stage": "rft", "step": n, "loss": 0.1, "trained_samples": 16, "trained_tokens": 480}
        for n in range(1, sequences // 16 + 1)
    ]
    (run / layout.METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
