import json
import random
import subprocess
import sys
import time

import pytest

from slime_tau2.episode import driver, scripts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.users import GoldUser
from slime_tau2.errors import ConfigError, UserSimulatorError
from slime_tau2.evaluation import runner


class Down:
    def start(self, *_):
        pass

    async def respond(self, message):
        raise UserSimulatorError("down")


def job(helpdesk, output, fail=lambda task_id: False, attempts=2, kind="gold", **over):
    ran = []

    async def one(world, task_id, seed):
        ran.append((task_id, seed))
        user = Down() if fail(task_id) else GoldUser()
        return await driver.run_episode(world, task_id, ScriptedAgent(scripts.script(kind, world.task(task_id))), user, seed=seed)

    tasks = helpdesk.task_ids("test")[:6]
    return runner.Run(helpdesk, "test", attempts, output, one, {"policy": kind} | over.pop("settings", {}), task_ids=tasks, **over), ran


async def test_records_and_summary(helpdesk, tmp_path):
    run, ran = job(helpdesk, tmp_path)
    records = await runner.run(run)
    assert len(records) == len(ran) == 12 and len(set(ran)) == 12
    assert {"domain", "task_id", "attempt", "reward", "termination", "messages", "reward_info", "turns"} <= set(records[0])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["metrics"]["overall"]["pass^2"]["value"] == 1.0 and summary["settings"]["tasks_sha256"] == helpdesk.tasks_sha256
    assert summary["excluded_infrastructure"] == 0 and summary["terminations"] == {"user_stop": 12}


async def test_a_killed_run_resumes_to_the_same_set(helpdesk, tmp_path):
    whole, _ = job(helpdesk, tmp_path / "whole")
    expected = {(r["task_id"], r["attempt"], r["seed"]) for r in await runner.run(whole)}
    part, _ = job(helpdesk, tmp_path / "part")
    await runner.run(part)
    lines = part.records_path.read_text().splitlines(keepends=True)
    part.records_path.write_text("".join(lines[:5]) + lines[5][:40])  # kill -9 in the middle of a line
    again, ran = job(helpdesk, tmp_path / "part")
    records = await runner.run(again)
    assert len(ran) == 7 and {(r["task_id"], r["attempt"], r["seed"]) for r in records} == expected


async def test_infrastructure_failures_are_excluded_and_tried_again(helpdesk, tmp_path):
    bad = helpdesk.task_ids("test")[0]
    run, _ = job(helpdesk, tmp_path, fail=lambda t: t == bad)
    await runner.run(run)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["excluded_infrastructure"] == 2 and summary["mean_reward"] == 1.0
    again, ran = job(helpdesk, tmp_path)
    records = await runner.run(again)
    assert [t for t, _ in ran] == [bad, bad] and len(records) == 12 and all(r["reward"] == 1.0 for r in records)


async def test_more_attempts_extend_a_run_and_other_settings_are_refused(helpdesk, tmp_path):
    run, _ = job(helpdesk, tmp_path, attempts=1)
    await runner.run(run)
    more, ran = job(helpdesk, tmp_path, attempts=3)
    assert len(await runner.run(more)) == 18 and len(ran) == 12
    other, _ = job(helpdesk, tmp_path, kind="noop")
    with pytest.raises(ConfigError, match="holds a run with policy = 'gold', not 'noop'; use another --output"):
        await runner.run(other)


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "attempts.jsonl"
    path.write_text('{"domain": "d", "task_id": "t", "attempt": 0}\n{oops\n{"domain": "d", "task_id": "t", "attempt": 1}\n')
    with pytest.raises(ConfigError, match="line 2: not JSON"):
        runner.read_records(path)
    separators = "a\u2028b\u2029c\x85d\x1ce"  # lines to str.splitlines, text to JSON
    record = {"domain": "d", "task_id": "t", "attempt": 0, "messages": [separators]}
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    assert runner.read_records(path) == [record]


async def test_a_dead_server_ends_the_run_early_and_the_same_command_resumes(helpdesk, tmp_path):
    with pytest.raises(ConfigError, match=r"the first \d+ attempts were all ended by the infrastructure, the last by: user: down; mend it"):
        await runner.run(job(helpdesk, tmp_path, fail=lambda task_id: True, attempts=10, concurrency=4)[0])
    spoiled = runner.read_records(tmp_path / "attempts.jsonl")
    assert runner.MOST_SPOILED <= len(spoiled) < 45 and all(r["reward"] is None for r in spoiled)
    records = await runner.run(job(helpdesk, tmp_path, attempts=10, concurrency=4)[0])
    assert len(records) == 60 and all(r["reward"] == 1.0 for r in records)


@pytest.mark.exhaustive
def test_twenty_kills_leave_the_result_of_an_undisturbed_run(tmp_path):
    """kill -9 at random moments, the same command again each time; deterministic policy, time fields aside."""

    def command(output):
        arguments = ["--domain", "retail", "--split", "train", "--policy", "gold", "--attempts", "8", "--concurrency", "4"]
        return [sys.executable, "-m", "slime_tau2.cli", "eval", *arguments, "--output", str(output)]

    def timeless(value):
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k not in ("timestamp", "wall_s", "policy_s", "user_s", "id")}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    def results(output):
        return [timeless(r) for r in runner.read_records(output / "attempts.jsonl")]

    subprocess.run(command(tmp_path / "calm"), check=True, capture_output=True)
    rng, kills, counts = random.Random(5), 0, []
    while kills < 20:
        process = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = len(runner.read_records(tmp_path / "killed" / "attempts.jsonl"))
        deadline = time.monotonic() + 60
        wanted = before + rng.randint(1, 25)
        while process.poll() is None and time.monotonic() < deadline:
            path = tmp_path / "killed" / "attempts.jsonl"
            if path.exists() and path.read_bytes().count(b"\n") >= wanted:
                break
            time.sleep(0.005)
        assert process.poll() is None, "it was to be killed before it was done"
        process.kill()
        process.wait()
        kills += 1
        counts.append(len(runner.read_records(tmp_path / "killed" / "attempts.jsonl")))
    assert counts == sorted(counts) and counts[-1] < 8 * 74, "nothing is lost, and there was something left to do"
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    assert results(tmp_path / "killed") == results(tmp_path / "calm")
    lines = (tmp_path / "killed" / "attempts.jsonl").read_text().splitlines()
    assert len(lines) == 8 * 74, "no attempt was made twice"
