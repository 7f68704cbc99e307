"""Task sets on the disk: written, read back, and each way in which one can be broken."""

import json
import shutil

import pytest
import task_set_files
from broken_kinds import KINDS

from slime_tau2.bench.tasks import domain_dir
from slime_tau2.episode import worlds
from slime_tau2.errors import BenchDataError, ConfigError
from slime_tau2.tasksets import manifest, stored, writing


def rewrite(directory, **changes):
    """The manifest with other values, and hashes that fit the files again."""
    path = directory / manifest.FILE
    content = json.loads(path.read_text()) | {"verified": None} | changes
    if "files" not in changes:
        content["files"] = writing._hashes(directory)
    path.write_text(json.dumps(content))


def rows(directory, change):
    path = directory / manifest.TASKS
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rewrite(directory)


def test_a_set_is_read_as_it_was_written(tmp_path):
    tasks = task_set_files.tasks()
    splits = {"train": [t["id"] for t in tasks[2:]], "held-out": [t["id"] for t in tasks[:2]]}
    made = task_set_files.write(tmp_path / "s", splits=splits, provenance={"seed": 3}, license="MIT", verified=False)
    again = stored.read(tmp_path / "s")
    assert again == made and again.unverified is None
    assert [t.model_dump(mode="json") for t in again.tasks.values()] == tasks
    assert again.manifest.provenance == {"made_by": writing.MADE_BY, "seed": 3}
    assert again.manifest.splits == splits and again.manifest.license == "MIT"
    assert not list(tmp_path.glob(".*")), "no half of it is left"


def test_verification_keeps_the_version_and_names_what_failed(tmp_path):
    before = task_set_files.write(tmp_path / "s", verified=False)
    ids = list(before.tasks)
    verdicts = [writing.Verdict(task=t, passed=t != ids[1], why="noop earns 1.0" * (t == ids[1])) for t in ids[:-1]]
    after = writing.write_verified(tmp_path / "s", verdicts, checks=["gold", "noop"])
    assert after.manifest.sha256 == before.manifest.sha256
    assert after.unverified == {ids[1]: "noop earns 1.0", ids[-1]: "it was not verified"}
    assert (after.manifest.verified.passed, after.manifest.verified.refused) == (len(ids) - 2, 2)
    with pytest.raises(ConfigError, match="a verdict on task 'nobody', which the set does not have"):
        writing.write_verified(tmp_path / "s", [writing.Verdict(task="nobody", passed=True)], checks=[])


@pytest.mark.parametrize(
    "harm, said",
    [
        (lambda d: rewrite(d, format=7), r"manifest\.json: format 7, and this slime_tau2 reads format 1"),
        (lambda d: rewrite(d, name="../up"), r"manifest\.json: name: String should match"),
        (lambda d: rewrite(d, colour="red"), r"manifest\.json: colour: Extra inputs are not permitted"),
        (lambda d: rewrite(d, domain="nowhere"), "unknown domain 'nowhere'"),
        (lambda d: rewrite(d, name="mock"), "'mock' is a domain of tau2's; give the set a name of its own"),
        (lambda d: rewrite(d, own_database_sha256="0" * 64), r"another database of retail than the installed tau2"),
        (lambda d: rewrite(d, own_database_sha256=None), "neither databases nor own_database_sha256"),
        (lambda d: rewrite(d, splits={"train": ["nobody"]}), r"splits: train names task 'nobody', and tasks\.jsonl"),
        (lambda d: rewrite(d, splits={"train": ["0", "0"]}), r"splits: train names task '0' twice"),
        (lambda d: rewrite(d, splits={"train": ["0"], "test": ["0"]}), r"task '0' is in train and in test"),
        (lambda d: rewrite(d, files={"tasks.jsonl": "0" * 64}), r"tasks\.jsonl is not the file .*get the set anew"),
        (lambda d: rewrite(d, files={}), r"files: no tasks\.jsonl among them"),
        (
            lambda d: rewrite(d, files={**writing._hashes(d), "../db.json": "0" * 64}),
            r"files: '\.\./db\.json' leaves the set's directory",
        ),
        (
            lambda d: rewrite(d, databases={"a": {"agent": "db.json"}}),
            r"databases: a names 'db\.json', which is not among `files`",
        ),
        (lambda d: rows(d, lambda r: []), r"tasks\.jsonl holds no task"),
        (lambda d: rows(d, lambda r: [*r, r[0]]), r"tasks\.jsonl, line 13: a second task '0'; ids must differ"),
        (lambda d: rows(d, lambda r: [{"id": "1"}]), r"tasks\.jsonl, line 1: no task of tau2's: user_scenario: Field"),
        (
            lambda d: rows(d, lambda r: [{**r[0], "database": "b"}]),
            r"line 1: task '0': database 'b' is none of the set's databases; there are none: leave it out",
        ),
    ],
)
def test_a_broken_set_is_one_line(tmp_path, harm, said):
    task_set_files.write(tmp_path / "s", splits={"train": []})
    harm(tmp_path / "s")
    with pytest.raises((ConfigError, BenchDataError), match=said) as caught:
        stored.read(tmp_path / "s")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["tasks.jsonl", "databases/own.json"])
def test_a_broken_file_whose_hash_fits_is_one_line(tmp_path, kind, file):
    task_set_files.write(tmp_path / "s", splits={"train": []}, databases={"own": domain_dir("retail") / "db.json"})
    KINDS[kind](tmp_path / "s" / file)
    path = tmp_path / "s" / manifest.FILE
    content = json.loads(path.read_text()) | {"verified": None}
    content["files"] = {"tasks.jsonl": "0" * 64, "databases/own.json": "0" * 64} | writing._hashes(tmp_path / "s")
    path.write_text(json.dumps(content))
    with pytest.raises((ConfigError, BenchDataError)) as caught:
        worlds.load(str(tmp_path / "s"))
    assert "\n" not in str(caught.value) and str(tmp_path / "s" / file) in str(caught.value)


def test_a_link_out_of_the_set_is_refused(tmp_path):
    task_set_files.write(tmp_path / "s", splits={"train": []})
    (tmp_path / "s" / "tasks.jsonl").rename(tmp_path / "elsewhere.jsonl")
    (tmp_path / "s" / "tasks.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    with pytest.raises(ConfigError, match=r"files: 'tasks\.jsonl' leaves .*a set's files lie within it"):
        stored.read(tmp_path / "s")


def test_a_verdict_of_another_version_does_not_count(tmp_path):
    task_set_files.write(tmp_path / "s")
    content = json.loads((tmp_path / "s" / manifest.FILE).read_text())
    content["splits"] = {"train": []}
    (tmp_path / "s" / manifest.FILE).write_text(json.dumps(content))
    with pytest.raises(
        ConfigError, match=r"verified: another version of the set was; run `slime-tau2 verify-tasks .*s`"
    ):
        stored.read(tmp_path / "s")
    assert stored.read(tmp_path / "s", verdicts=False).unverified is None


@pytest.mark.parametrize("harm", [lambda path: path.write_text(path.read_text() + "\n"), lambda path: path.unlink()])
def test_verdicts_that_somebody_changed_do_not_count(tmp_path, harm):
    task_set_files.write(tmp_path / "s")
    harm(tmp_path / "s" / manifest.VERIFIED)
    with pytest.raises(ConfigError, match=r"verified\.jsonl (is not the file|does not exist)"):
        stored.read(tmp_path / "s")
    read = stored.read(tmp_path / "s", verdicts=False)
    writing.write_verified(tmp_path / "s", [writing.Verdict(task=t, passed=True) for t in read.tasks], checks=["gold"])
    assert stored.read(tmp_path / "s").unverified == {}


def test_what_is_wrong_with_a_set_is_said_before_its_verdicts(tmp_path):
    task_set_files.write(tmp_path / "s")
    path = tmp_path / "s" / manifest.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": {"train": ["nobody"]}}))
    with pytest.raises(ConfigError, match="splits: train names task 'nobody'"):
        stored.read(tmp_path / "s")


def test_a_tool_that_is_not_there_is_refused_with_the_nearest(tmp_path):
    order = next(iter(worlds.load("retail").environments.base.tools.db.orders))
    task = task_set_files.cancel(order, "one")
    task["evaluation_criteria"]["actions"][0]["name"] = "cancel_order"
    task_set_files.write(tmp_path / "s", tasks=[task])
    with pytest.raises(ConfigError, match=r"task 'one': its action 'cancel_order' is no tool of retail; did you mean"):
        worlds.load(str(tmp_path / "s"))
    with pytest.raises(ConfigError, match="'cancel_order' is no tool of retail"):
        worlds.task_splits(str(tmp_path / "s"))  # `slime-tau2 tasks`


@pytest.mark.parametrize("domain, said", [("airline", "is no FlightDB of airline"), ("retail", "is no RetailDB")])
def test_a_database_of_another_domain_is_refused(tmp_path, domain, said):
    other = {"airline": "retail", "retail": "airline"}[domain]
    task_set_files.write(
        tmp_path / "s", name="wrong", domain=domain, databases={"a": domain_dir(other) / "db.json"}, count=2
    )
    with pytest.raises(BenchDataError, match=said):
        worlds.load(str(tmp_path / "s"))


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ConfigError, match=r"/s/tasks\.jsonl, line 13: a second task"):
        task_set_files.write(tmp_path / "s", tasks=[*task_set_files.tasks(), task_set_files.tasks()[0]])
    with pytest.raises(ConfigError, match=r"absent\.json does not exist"):
        task_set_files.write(tmp_path / "s", databases={"a": tmp_path / "absent.json"})
    assert list(tmp_path.iterdir()) == []
    task_set_files.write(tmp_path / "s")
    with pytest.raises(ConfigError, match="/s is not empty; use another directory"):
        task_set_files.write(tmp_path / "s")
    shutil.rmtree(tmp_path / "s")
    (tmp_path / "s").mkdir()
    task_set_files.write(tmp_path / "s")
