import asyncio
import json
import random
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import pytest
from run_files import record

from slime_tau2.data import records
from slime_tau2.episode import driver, scripts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.users import GoldUser
from slime_tau2.errors import ConfigError, EvaluationStopped, UserSimulatorError
from slime_tau2.evaluation import plan, runner, runs
from slime_tau2.evaluation.plan import RunPlan, TaskSet


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
        return await driver.run_episode(
            world, task_id, ScriptedAgent(scripts.script(kind, world.task(task_id))), user, seed=seed
        )

    tasks = TaskSet.of(helpdesk, "test", over.pop("tasks", helpdesk.task_ids("test")[:6]))
    todo = RunPlan(sets=(tasks,), attempts=attempts, settings={"policy": kind} | over.pop("settings", {}))
    return runner.Run(plan=todo, worlds={"helpdesk": helpdesk}, output=output, run_one=one, **over), ran


async def test_records_and_summary(helpdesk, tmp_path):
    run, ran = job(helpdesk, tmp_path)
    found = (await runner.run(run)).records
    assert len(found) == len(ran) == 12 and len(set(ran)) == 12
    assert {"domain", "task_id", "attempt", "reward", "termination", "messages", "reward_info", "turns"} <= set(
        found[0]
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (
        summary["metrics"]["overall"]["pass^2"]["value"] == 1.0
        and summary["plan"]["sets"][0]["tasks_sha256"] == helpdesk.tasks_sha256
    )
    assert summary["excluded_infrastructure"] == 0 and summary["terminations"] == {"user_stop": 12}


async def test_a_killed_run_resumes_to_the_same_set(helpdesk, tmp_path):
    whole, _ = job(helpdesk, tmp_path / "whole")
    expected = {(r["task_id"], r["attempt"], r["seed"]) for r in (await runner.run(whole)).records}
    part, _ = job(helpdesk, tmp_path / "part")
    await runner.run(part)
    lines = part.records_path.read_text().splitlines(keepends=True)
    part.records_path.write_text("".join(lines[:5]) + lines[5][:40])  # kill -9 in the middle of a line
    again, ran = job(helpdesk, tmp_path / "part")
    found = (await runner.run(again)).records
    assert len(ran) == 7 and {(r["task_id"], r["attempt"], r["seed"]) for r in found} == expected


async def test_infrastructure_failures_are_excluded_and_tried_again(helpdesk, tmp_path):
    bad = helpdesk.task_ids("test")[0]
    run, _ = job(helpdesk, tmp_path, fail=lambda t: t == bad)
    await runner.run(run)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["excluded_infrastructure"] == 2 and summary["mean_reward"] == 1.0
    again, ran = job(helpdesk, tmp_path)
    found = (await runner.run(again)).records
    assert [t for t, _ in ran] == [bad, bad] and len(found) == 12 and all(r["reward"] == 1.0 for r in found)


async def test_more_attempts_extend_a_run_and_other_settings_are_refused(helpdesk, tmp_path):
    run, _ = job(helpdesk, tmp_path, attempts=1)
    await runner.run(run)
    more, ran = job(helpdesk, tmp_path, attempts=3)
    assert len((await runner.run(more)).records) == 18 and len(ran) == 12
    other, _ = job(helpdesk, tmp_path, kind="noop")
    with pytest.raises(ConfigError, match="holds a run with policy = 'gold', not 'noop'; use another --output"):
        await runner.run(other)
    fewer, _ = job(helpdesk, tmp_path, attempts=2)
    with pytest.raises(ConfigError, match="holds a run with attempts = 3, not 2"):
        await runner.run(fewer)
    other_tasks, _ = job(helpdesk, tmp_path, attempts=3, tasks=helpdesk.task_ids("test")[1:6])
    with pytest.raises(ConfigError, match="holds a run of more tasks of helpdesk, 'orders_250' among them"):
        await runner.run(other_tasks)
    grown, ran = job(helpdesk, tmp_path, attempts=3, tasks=helpdesk.task_ids("test")[:8])
    assert len((await runner.run(grown)).records) == 24 and len(ran) == 6


async def test_the_plan_is_there_before_the_first_attempt(helpdesk, tmp_path):
    run, _ = job(helpdesk, tmp_path)
    play, seen = run.run_one, []

    async def one(world, task_id, seed):
        seen.append(plan.read(tmp_path))
        return await play(world, task_id, seed)

    run.run_one = one
    await runner.run(run)
    assert all(p == run.plan for p in seen) and len(seen) == 12


async def test_what_is_done_is_counted_against_what_was_planned(helpdesk, tmp_path):
    run, _ = job(helpdesk, tmp_path, fail=lambda t: t == helpdesk.task_ids("test")[0])
    covered = (await runner.run(run)).coverage
    assert (covered.planned, covered.scored, covered.excluded, covered.not_run, covered.whole) == (12, 10, 2, 0, False)
    assert str(covered) == "10 of 12 attempts scored, 2 ended by the infrastructure (user_failure 2)"
    lines = run.records_path.read_text().splitlines(keepends=True)
    run.records_path.write_text("".join(lines[:4]))
    half = runs.load(tmp_path)
    assert half.coverage.not_run == 8 and half.title.startswith(f"{tmp_path.name} (PARTIAL: ")


async def test_a_scored_record_is_never_replaced(helpdesk, tmp_path):
    run, _ = job(helpdesk, tmp_path)
    await runner.run(run)
    first = json.loads(run.records_path.read_text().splitlines()[0])
    with run.records_path.open("a") as file:
        for late in (
            {"reward": None, "reward_info": None, "termination": "policy_failure"},
            {"reward": 0.0, "reward_info": {"reward": 0.0}},
        ):
            file.write(json.dumps(first | late) + "\n")
    assert all(r["reward"] == 1.0 for r in records.read(run.records_path)) and runs.load(tmp_path).coverage.whole


async def test_a_record_of_another_run_is_refused(helpdesk, tmp_path):
    run, _ = job(helpdesk, tmp_path)
    await runner.run(run)
    other, _ = job(helpdesk, tmp_path / "other", kind="noop")
    await runner.run(other)
    other.records_path.write_text(run.records_path.read_text())  # the same tasks and attempts, another policy's
    with pytest.raises(ConfigError, match="the record of helpdesk 'orders_250', attempt 0, was made by another run"):
        runs.load(tmp_path / "other")
    first = json.loads(run.records_path.read_text().splitlines()[0])
    with run.records_path.open("a") as file:
        file.write(json.dumps(first | {"attempt": 7}) + "\n")
    with pytest.raises(ConfigError, match="attempt 7, is not in the run's plan of 2 attempts at 6 tasks"):
        runs.load(tmp_path)


def test_one_process_at_a_time_writes_a_directory(helpdesk, tmp_path):
    hold = "import pathlib, sys\nfrom slime_tau2 import manifest\nwith manifest.held(pathlib.Path(sys.argv[1])): print(1, flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "1\n"
    with pytest.raises(
        ConfigError, match=rf"is being written by process {child.pid} on .*; wait for it, or use another --output"
    ):
        asyncio.run(runner.run(job(helpdesk, tmp_path)[0]))
    assert not (tmp_path / "plan.json").exists()
    child.kill()
    child.wait()
    assert asyncio.run(runner.run(job(helpdesk, tmp_path)[0])).coverage.whole


async def test_a_bug_ends_the_run_and_is_no_infrastructure(helpdesk, tmp_path):
    run, ran = job(helpdesk, tmp_path)
    run.on_episode = lambda episode: 1 / 0
    run.concurrency = 1
    with pytest.raises(ZeroDivisionError):
        await runner.run(run)
    assert len(ran) == 1, "no attempt would have fared better"


async def test_the_guard_can_stop_a_run_and_what_was_scored_is_kept(helpdesk, tmp_path):
    run, _ = job(helpdesk, tmp_path)
    play = run.run_one

    async def one(world, task_id, seed):
        if task_id == helpdesk.task_ids("test")[5]:
            await asyncio.sleep(3600)  # a server that never answers
        return await play(world, task_id, seed)

    @asynccontextmanager
    async def guard(stop):
        watcher = asyncio.get_running_loop().call_later(0.5, stop, "the server is silent")
        yield
        watcher.cancel()

    run.run_one, run.guard = one, guard
    with pytest.raises(
        EvaluationStopped,
        match="the server is silent; 10 of 12 attempts scored, 2 not run; mend it and run the same command",
    ):
        await runner.run(run)
    assert json.loads((tmp_path / "summary.json").read_text())["not_run"] == 2


class Closes:
    def __init__(self, closed, error=None):
        self.closed, self.error = closed, error

    async def close(self):
        self.closed.append(self.error)
        if self.error is not None:
            raise self.error


async def test_all_who_play_are_closed_and_the_runs_own_error_is_the_one_that_is_raised(helpdesk, tmp_path, caplog):
    closed = []
    players = Closes(closed, OSError("a session")), Closes(closed)
    run, _ = job(helpdesk, tmp_path / "whole")
    assert (await runner.run_and_close(run, *players)).coverage.whole
    assert len(closed) == 2 and [str(record.exc_info[1]) for record in caplog.records] == ["a session"]
    broken, _ = job(helpdesk, tmp_path / "broken")
    broken.on_episode = lambda episode: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await runner.run_and_close(broken, *players)
    assert len(closed) == 4


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "attempts.jsonl"
    whole = [json.dumps(record("d", "t", n, 1.0)) for n in (0, 1)]
    path.write_text(f"{whole[0]}\n{{oops\n{whole[1]}\n")
    with pytest.raises(ConfigError, match="line 2: not JSON"):
        records.read(path)
    separators = "a\u2028b\u2029c\x85d\x1ce"  # lines to str.splitlines, text to JSON
    odd = record("d", "t", 0, 1.0, messages=[{"role": "user", "content": separators}])
    path.write_text(json.dumps(odd, ensure_ascii=False) + "\n", encoding="utf-8")
    assert records.read(path) == [odd]
    path.write_bytes(
        (json.dumps(odd, ensure_ascii=False) + "\n" + '{"a": "é').encode()[:-1]
    )  # kill -9 within a character
    assert records.so_far(path) == [odd]
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        records.read(path)


async def test_a_dead_server_ends_the_run_early_and_the_same_command_resumes(helpdesk, tmp_path):
    """A fifth of the attempts in a row, also when some were scored before."""
    ran = []

    def dies(task_id):
        ran.append(task_id)
        return len(ran) > 20

    match = r"the infrastructure ended 12 attempts in a row, the last by: user: down; 2\d of 60 attempts scored, 12 ended .*, 2\d not run; mend it"
    with pytest.raises(EvaluationStopped, match=match):
        await runner.run(job(helpdesk, tmp_path, fail=dies, attempts=10, concurrency=4)[0])
    spoiled = records.read(tmp_path / "attempts.jsonl")
    assert 32 <= len(spoiled) <= 36 and sum(r["reward"] is None for r in spoiled) == 12
    done = await runner.run(job(helpdesk, tmp_path, attempts=10, concurrency=4)[0])
    assert len(done.records) == 60 and all(r["reward"] == 1.0 for r in done.records)


async def test_what_is_extended_leaves_no_summary_of_less(helpdesk, tmp_path):
    run, _ = job(helpdesk, tmp_path, attempts=1)
    await runner.run(run)
    (tmp_path / "baselines.json").write_text("{}")
    more, _ = job(helpdesk, tmp_path, attempts=2)
    play, seen = more.run_one, []

    async def one(world, task_id, seed):
        seen.append([(tmp_path / name).exists() for name in ("summary.json", "baselines.json")])
        return await play(world, task_id, seed)

    more.run_one = one
    await runner.run(more)
    assert seen == [[False, False]] * 6 and runs.load(tmp_path).coverage.whole


async def test_a_burst_of_failures_at_the_start_is_no_outage(helpdesk, tmp_path, monkeypatch):
    """Four attempts fail at once after a long while without a score; the others are under way and would score."""
    clock = [0.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: clock[0])
    bad = helpdesk.task_ids("test")[:4]
    run, _ = job(helpdesk, tmp_path, fail=lambda t: t in bad and clock[0] < 40, attempts=10)
    play = run.run_one

    async def one(world, task_id, seed):
        clock[0] = max(clock[0], 35.0)
        out = await play(world, task_id, seed)
        clock[0] += (
            5.0 if clock[0] < 36 and out.reward is None and len(run.records_path.read_text().splitlines()) >= 3 else 0.0
        )
        return out

    run.run_one, run.concurrency = one, 4
    assert (await runner.run(run)).coverage.scored >= 50


def test_a_small_split_is_given_up_too():
    assert [runner.most_in_a_row(n) for n in (1, 20, 40, 100, 600)] == [4, 4, 8, 16, 16]


@pytest.mark.exhaustive
def test_twenty_kills_leave_the_result_of_an_undisturbed_run(tmp_path):
    """kill -9 at random moments, the same command again each time; deterministic policy, time fields aside."""

    def command(output):
        arguments = [
            "--domain",
            "retail",
            "--split",
            "train+val",
            "--policy",
            "gold",
            "--attempts",
            "8",
            "--concurrency",
            "4",
        ]
        return [sys.executable, "-m", "slime_tau2.cli", "eval", *arguments, "--output", str(output)]

    def timeless(value):
        if isinstance(value, dict):
            return {
                k: timeless(v)
                for k, v in value.items()
                if k not in ("run", "timestamp", "wall_s", "policy_s", "user_s", "id")
            }
        return [timeless(v) for v in value] if isinstance(value, list) else value

    def results(output):
        return [timeless(r) for r in records.read(output / "attempts.jsonl")]

    subprocess.run(command(tmp_path / "calm"), check=True, capture_output=True)
    rng, kills, counts = random.Random(5), 0, []
    while kills < 20:
        process = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = len(records.so_far(tmp_path / "killed" / "attempts.jsonl"))
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
        counts.append(len(records.so_far(tmp_path / "killed" / "attempts.jsonl")))
    assert counts == sorted(counts) and counts[-1] < 8 * 74, "nothing is lost, and there was something left to do"
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    assert results(tmp_path / "killed") == results(tmp_path / "calm")
    lines = (tmp_path / "killed" / "attempts.jsonl").read_text().splitlines()
    assert len(lines) == 8 * 74, "no attempt was made twice"
