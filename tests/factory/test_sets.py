"""`make-tasks`: sets of the factory, whole on the disk, and stories in other words."""

import asyncio
import json
import re

import pytest
from fake_openai import FakeOpenAI
from typer.testing import CliRunner

from slime_tau2.cli import app
from slime_tau2.data import held_out
from slime_tau2.errors import ConfigError
from slime_tau2.factory import build, rewrite, sets
from slime_tau2.tasksets import stored
from slime_tau2.verification import declared

COUNT = 30


def run(*arguments):
    return CliRunner().invoke(app, ["make-tasks", *map(str, arguments)])


def test_a_set_is_made_and_verified(tmp_path):
    done = run("--domain", "retail", "--count", COUNT, "--seed", 4, "--output", tmp_path / "shop", "--verify")
    assert done.exit_code == 0, done.output
    assert f"{COUNT} tasks, {COUNT} passed, 0 refused" in done.output and "cancel_pending" in done.output
    made = stored.read(tmp_path / "shop")
    assert list(made.tasks) == [m.task["id"] for m in build.make("retail", COUNT, 4)]
    assert made.manifest.splits == build.splits("retail", build.make("retail", COUNT, 4)) and made.unverified == {}
    assert made.manifest.provenance["seed"] == 4 and made.manifest.provenance["by_construction"]
    covered = json.loads((tmp_path / "shop" / sets.COVERAGE).read_text())
    assert sets.COVERAGE in made.manifest.files
    assert covered["rules"]["cancel_pending"]["says"] and sum(covered["outcomes"].values()) == COUNT
    held = held_out.held_out(str(tmp_path / "shop"))
    assert {t for t, why in held.items() if why == "held-out"} == set(made.manifest.splits["held-out"])
    for task in made.tasks.values():
        said = declared.of(task)
        assert said is not None and said.wishes and set(said.entities) >= {said.owner}


def test_an_unverified_set_says_what_to_do(tmp_path):
    done = run("--domain", "helpdesk", "--count", 12, "--output", tmp_path / "desk", "--name", "more-desk")
    assert done.exit_code == 0 and f"slime-tau2 verify-tasks {tmp_path / 'desk'}" in " ".join(done.output.split())
    assert stored.read(tmp_path / "desk").manifest.name == "more-desk"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--domain", "mock", "--count", 1], "no task factory for 'mock'; there is one for: airline"),
        (["--domain", "retail", "--count", 1, "--refused", 0.9, "--transferred", 0.2], "more than all tasks together"),
        (["--domain", "retail", "--count", 1, "--rewrite", "http://127.0.0.1:1/v1"], "--rewrite URL/v1 and --model"),
        (["--domain", "retail", "--count", 1, "--key-env", "KEY"], "--key-env: it is an option of --rewrite"),
    ],
)
def test_what_cannot_be_made(tmp_path, arguments, said):
    done = run(*arguments, "--output", tmp_path / "s")
    assert isinstance(done.exception, ConfigError) and said in str(done.exception)
    assert not (tmp_path / "s").exists()


def test_a_directory_or_a_name_that_will_not_do_costs_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "make", None)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "manifest.json").touch()
    (tmp_path / "set" / "tasks.jsonl").touch()
    for output, more, said in (
        ("new", ["--name", "a/b"], "'a/b' is no name of a task set"),
        ("a b", [], "'a b' is no name of a task set"),
        ("retail", [], "'retail' is a domain's name; give the set another with --name"),
        ("set/manifest.json", [], "is a file, and a task set is a directory"),
        ("set/within", [], "lies within the task set"),
    ):
        done = run("--domain", "retail", "--count", 9, "--output", tmp_path / output, *more)
        assert isinstance(done.exception, ConfigError) and said in str(done.exception)
    (tmp_path / "file").touch()
    done = run("--domain", "retail", "--count", 9, "--output", tmp_path)
    assert isinstance(done.exception, ConfigError) and "is not empty" in str(done.exception)


# Other words


def asked(body):
    return json.loads(body["messages"][-1]["content"])


def politely(body):
    story = asked(body)
    return json.dumps(story | {"task_instructions": f"{story['task_instructions']} Please be kind to the agent."})


def careless(body):
    return json.dumps({part: text and "You want something else." for part, text in asked(body).items()})


def chatty(body):
    return json.dumps({part: text and f"{text} Also #W9999999." for part, text in asked(body).items()})


NOT = re.compile(r"\b(?:do not|don't|not|no|nothing|cannot) ", re.IGNORECASE)


def without_nots(body):
    return json.dumps({part: text and NOT.sub("", text) for part, text in asked(body).items()})


def with_a_not(body):
    story = asked(body)
    return json.dumps(story | {"reason_for_call": story["reason_for_call"].replace("You want", "You do not want")})


WORDS = [(politely, 8), (careless, 0), (chatty, 0), (["no JSON"], 0), (without_nots, 0), (with_a_not, 0)]


@pytest.mark.parametrize("answers, rewritten", WORDS)
def test_other_words_are_taken_only_with_every_fact(tmp_path, answers, rewritten):
    async def make():
        async with FakeOpenAI(answers) as fake:
            told = rewrite.rewriter(fake.url, "m", key_env=None, seed=0, concurrency=4)
            options = {"name": "s", "factory": "retail", "count": 8, "seed": 2, "rewrite": told}
            made = await asyncio.to_thread(sets.make_set, tmp_path / "s", **options)
            return made, fake

    made, fake = asyncio.run(make())
    counts = {"model": "m", "rewritten": rewritten, "kept": 8 - rewritten}
    assert made.stored.manifest.provenance["rewrite"] == counts
    assert fake.peak <= 4 and len(fake.bodies) == (8 if rewritten else 8 * rewrite.TRIES)
    as_made = {m.task["id"]: m.task for m in build.make("retail", 8, 2)}
    for task_id, task in made.stored.tasks.items():
        said = task.user_scenario.instructions.task_instructions
        before = as_made[task_id]["user_scenario"]["instructions"]["task_instructions"]
        assert (said != before) == bool(rewritten) and said.startswith(before)


def test_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(rewrite, "RETRIES", rewrite.Retries(count=0, timeout_s=5.0))
    done = run(
        *("--domain", "retail", "--count", 2, "--output", tmp_path / "s"),
        *("--rewrite", "http://127.0.0.1:9/v1", "--model", "m"),
    )
    assert isinstance(done.exception, ConfigError) and "--rewrite http://127.0.0.1:9/v1: " in str(done.exception)


LOST_NOT = "task_instructions: another number of negations"


def test_a_not_that_moves_to_another_fact():
    old = {"reason_for_call": "You want the item in red, not the one of order #W123; you have order #W555 at hand."}
    old |= {"known_info": "", "unknown_info": None, "task_instructions": ""}
    draft = next(m.draft for m in build.make("retail", 4, 3))
    moved = "You want the item in red, the one of order #W123; you do not have order #W555 at hand."
    same = "In red you want the item, but not that of order #W123; order #W555 is at hand."
    assert rewrite.accepted(json.dumps(old | {"reason_for_call": same}), old, draft)["reason_for_call"] == same
    with pytest.raises(rewrite.Refused, match="#W123 is denied in one of the two"):
        rewrite.accepted(json.dumps(old | {"reason_for_call": moved}), old, draft)


@pytest.mark.parametrize("text", ["You do not remember it.", "You don't remember it.", "You can’t, you have it not."])
def test_negations_are_counted(text):
    assert rewrite.negations(text) == (text.count("n't") + text.count("n’t") + text.count("not"), 0)


def test_each_way_to_lose_a_fact():
    made = build.make("retail", 60, 3)
    draft = next(m.draft for m in made if m.draft.writes())
    old = {
        "reason_for_call": "You want to return the Sony Camera of order #W123.",
        "known_info": "You are Mia Li, in 78712. Your email is mia.li@example.com.",
        "unknown_info": None,
        "task_instructions": "Do not tell your email until the agent asks.",
    }

    def why(**changes):
        try:
            rewrite.accepted(json.dumps(old | changes), old, draft)
        except rewrite.Refused as refused:
            return str(refused)
        return ""

    assert why() == why(known_info="Mia Li is who you are; zip 78712, mail mia.li@example.com, you live there.") == ""
    assert (
        why(reason_for_call="The Sony Camera of order #W124 shall go back, you want.") == "reason_for_call: lost #W123"
    )
    assert why(known_info="You are Mia, in 78712. Your email is mia.li@example.com.") == "known_info: lost Li"
    assert why(known_info="You are Mia Li, in 78712.") == "known_info: lost mia.li@example.com"
    assert why(task_instructions="Do not tell your email to agent 7 until asked.") == "task_instructions: came in 7"
    assert why(task_instructions="Tell your email as soon as the agent asks.") == LOST_NOT
    assert why(task_instructions="Do not tell your email before you are asked for it.") == ""
    assert why(task_instructions="Tell your email only when the agent asks for it.") == ""
    assert why(known_info="You are not Mia Li, in 78712. Your email is mia.li@example.com.") == LOST_NOT.replace(
        "task_instructions", "known_info"
    )
    assert why(task_instructions="Ask.") == "task_instructions: too short, too long or no text"
    assert why(task_instructions=3) == "task_instructions: too short, too long or no text"
    assert why(extra="x") == "other parts"
    assert rewrite.accepted(json.dumps(old | {"unknown_info": "You forgot #W9."}), old, draft)["unknown_info"] is None
