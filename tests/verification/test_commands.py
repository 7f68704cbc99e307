"""`verify-tasks` as a user meets it: the table, verified.jsonl, exit codes."""

import json

import pytest
import task_set_files
from typer.testing import CliRunner

from slime_tau2 import cli_tasks
from slime_tau2.cli import app
from slime_tau2.episode import worlds
from slime_tau2.errors import ConfigError
from slime_tau2.factory import build
from slime_tau2.tasksets import manifest, stored
from slime_tau2.verification.checks import CHECKS

COUNT = 10


@pytest.fixture(scope="module")
def good():
    return [m.task for m in build.make("retail", COUNT, 0)]


def run(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exception is None or isinstance(done.exception, (SystemExit, ConfigError)), done.exception
    return done


def spoiled(task):
    """A copy whose gold has a write that changes nothing."""
    copy = json.loads(json.dumps(task)) | {"id": "spoiled"}
    action = {"action_id": "x", "name": "cancel_pending_order", "arguments": {"order_id": "#W1", "reason": "no"}}
    copy["evaluation_criteria"]["actions"] = [action]
    copy["evaluation_criteria"]["communicate_info"] = []
    copy["description"] = None
    return copy


def test_a_good_set_is_verified_and_trains(tmp_path, good):
    made = task_set_files.write(tmp_path / "good", name="good", tasks=good, verified=False)
    assert made.unverified is None
    done = run("verify-tasks", tmp_path / "good", "--evaluated", "0")
    assert done.exit_code == 0 and f"{COUNT} tasks, {COUNT} passed, 0 refused" in done.output
    after = stored.read(tmp_path / "good")
    assert after.unverified == {} and after.manifest.verified.passed == COUNT
    assert after.manifest.verified.checks == [f"{number} {name}" for number, name in CHECKS.items()]
    assert after.manifest.sha256 == made.manifest.sha256
    lines = [json.loads(line) for line in (tmp_path / "good" / manifest.VERIFIED).read_text().splitlines()]
    assert [line["task"] for line in lines] == [task["id"] for task in good]
    assert set(lines[0]["details"]) == {"findings", "free", "order_only", "order_fixed", "evaluated"}


def test_a_file_that_cannot_be_written_costs_no_time(tmp_path, good, monkeypatch):
    task_set_files.write(tmp_path / "good", name="good", tasks=good)
    monkeypatch.setattr(cli_tasks, "_verify", None)
    for output in (tmp_path, tmp_path / "nowhere" / "x.jsonl"):
        done = run("verify-tasks", tmp_path / "good", "--output", output)
        assert isinstance(done.exception, ConfigError) and "--output" in str(done.exception)


def test_a_set_that_was_edited_is_verified_again(tmp_path, good):
    task_set_files.write(tmp_path / "good", name="good", tasks=good)
    path = tmp_path / "good" / manifest.FILE
    content = json.loads(path.read_text())
    content["splits"] = {"train": content["splits"]["train"][:3]}
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="another version"):
        stored.read(tmp_path / "good")
    assert run("verify-tasks", tmp_path / "good", "--evaluated", "0").exit_code == 0
    assert stored.read(tmp_path / "good").unverified == {}


def test_a_set_with_a_bad_task(tmp_path, good):
    task_set_files.write(tmp_path / "bad", name="bad", tasks=[*good[:2], spoiled(good[0])], verified=False)
    done = run("verify-tasks", tmp_path / "bad", "--evaluated", "1")
    assert done.exit_code == cli_tasks.REFUSED and "3 tasks, 2 passed, 1 refused" in done.output
    assert "spoiled" in done.output and "graded 3 of them too" in done.output
    assert set(stored.read(tmp_path / "bad").unverified) == {"spoiled"}
    assert "nothing-pays" in stored.read(tmp_path / "bad").unverified["spoiled"]
    assert run("verify-tasks", tmp_path / "bad", "--allow-refused").exit_code == 0
    accepted = ("--accept", "nothing-pays", "--accept", "gold-fails")
    kept = run(
        "verify-tasks", tmp_path / "bad", *accepted, "--accept", "write-unneeded", "--accept", "argument-unknown"
    )
    assert kept.exit_code == 0
    after = stored.read(tmp_path / "bad")
    assert after.unverified == {} and "accepted: nothing-pays" in after.manifest.verified.checks


def test_parts_of_it_leave_the_set_alone(tmp_path, good):
    task_set_files.write(tmp_path / "part", name="part", tasks=good[:2], verified=False)
    done = run("verify-tasks", tmp_path / "part", "--checks", "1,2", "--output", tmp_path / "v.jsonl")
    assert done.exit_code == 0 and len((tmp_path / "v.jsonl").read_text().splitlines()) == 2
    done = run("verify-tasks", tmp_path / "part", "--checks", "1")
    assert "was left as it is" in done.output
    assert stored.read(tmp_path / "part").unverified is None


def test_a_domain(tmp_path):
    done = run("verify-tasks", "mock", "--output", tmp_path / "mock.jsonl", "--evaluated", "1")
    assert done.exit_code == 0
    assert len((tmp_path / "mock.jsonl").read_text().splitlines()) == len(worlds.load("mock").task_ids("base"))


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["mock", "--checks", "1,9"], "--checks 1,9: '9' is none; there are 1 gold earns everything, 2"),
        (["mock", "--accept", "noting-pays"], "--accept noting-pays: did you mean nothing-pays?"),
        (["mock", "--accept", "argument-free"], "--accept argument-free: "),
        (["./nowhere"], "nowhere: no such directory of a task set"),
    ],
)
def test_what_is_not_there(arguments, said):
    done = run("verify-tasks", *arguments)
    assert isinstance(done.exception, ConfigError) and said in str(done.exception)
