"""Directories of runs as `slime-tau2 eval` leaves them, made of rewards alone."""

import json

from slime_tau2.evaluation.plan import RunPlan, TaskSet
from slime_tau2.record import FORMAT

INFO = {"reward": 0.0, "reward_basis": ["DB"]}


TURN = {
    "index": 0,
    "start": 0,
    "end": 1,
    "text": "t",
    "calls": 1,
    "call_errors": 0,
    "malformed": 0,
    "finish_reason": "stop",
    "sent": True,
    "partial": 0.0,
    "gain": 0.0,
    "by_call": [],
}


RUN = "5f3a"


def record(domain, task_id, attempt, reward, **more):
    return {
        "format": FORMAT,
        "run": RUN,
        "domain": domain,
        "task_id": task_id,
        "attempt": attempt,
        "seed": 1,
        "reward": reward,
        "partial": None,
        "detail": "",
        "termination": "policy_failure" if reward is None else "user_stop",
        "disposition": "retry then drop" if reward is None else "score",
        "components": {},
        "turns": [],
        "messages": [],
        "reward_info": None if reward is None else INFO | {"reward": reward},
        "reward_basis": ["DB"],
        "steps": 2,
        "tool_errors": 0,
        "response_tokens": 0,
        "sampled_tokens": 0,
        "wall_s": 0.1,
        "policy_s": 0.0,
        "user_s": 0.0,
        "tau2": "pypi 0",
        "tasks_sha256": "ab",
        "usage": {},
        "user_stopped_early": False,
        "reasoning": [],
    } | more


def write(directory, rewards, attempts=None, split_size=None, split="test", tau2="0", more=None, **settings):
    """rewards: {domain: {task: [reward of each attempt, None where infrastructure ended it]}}, or {task: …} of airline.
    Fewer rewards than `attempts`: not run.
    """
    if not all(isinstance(v, dict) for v in rewards.values()):
        rewards = {"airline": rewards}
    sets = [
        TaskSet(
            domain=d,
            split=split,
            tasks=tuple(by),
            in_split=len(by),
            split_size=split_size or len(by),
            tasks_sha256="ab",
        )
        for d, by in rewards.items()
    ]
    told = {
        "policy": "m",
        "user": "llm",
        "user_model": "u",
        "user_temperature": 0.7,
        "max_steps": 200,
        "max_errors": 10,
    }
    longest = max(len(row) for by in rewards.values() for row in by.values())
    RunPlan(run=RUN, sets=tuple(sets), attempts=attempts or longest, tau2=tau2, settings=told | settings).write(
        directory
    )
    rows = [
        record(d, t, n, r, **(more or {}))
        for d, by in rewards.items()
        for t, row in by.items()
        for n, r in enumerate(row)
    ]
    (directory / "attempts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return directory
