"""report.html in a real browser: what it shows, that it filters, and that nobody's words become markup."""

import asyncio
import json

import pytest
import run_files
from chromium import BINARY, REASON, Chromium
from fake_policy import FakePolicy, teacher_reply

from slime_tau2.config import Tau2Config
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.evaluation import conversations, page, runner
from slime_tau2.evaluation.plan import RunPlan, TaskSet
from slime_tau2.evaluation.players import turn_tokens

browser = pytest.mark.skipif(BINARY is None, reason=REASON)
EVIL = '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1"></script><b>bold</b>'


@pytest.fixture(scope="module")
def records(helpdesk, tokenizer, tmp_path_factory):
    """Two attempts at each of six tasks by the flawed teacher behind a policy server, recorded as `eval` records."""
    return asyncio.run(_records(helpdesk, tokenizer, tmp_path_factory.mktemp("run")))


async def _records(helpdesk, tokenizer, directory):
    async with FakePolicy(tokenizer, teacher_reply(flaws=1.0)) as fake:
        box = Harness(Tau2Config(user="scripted"), tokenizer, PolicyClient(fake.url))

        async def one(world, task_id, seed):
            agent = box.agent(world, sampling={"temperature": 1.0}, routing_key=f"{task_id}-{seed}")
            episode = await box.run(world, task_id, agent, seed=seed)
            episode.turn_tokens = turn_tokens(episode, tokenizer)
            return episode

        ids = [f"{family}_{n}" for family in ("orders", "refunds", "phones") for n in (250, 251)]
        plan = RunPlan(sets=(TaskSet.of(helpdesk, "test", ids),), attempts=2)
        out = (
            await runner.run(runner.Run(plan=plan, worlds={"helpdesk": helpdesk}, output=directory, run_one=one))
        ).records
        await box.close()
    return out


def stage(name, records):
    return page.ShownRun(name, records, list(dict.fromkeys((r["domain"], r["task_id"]) for r in records)), 2)


@pytest.fixture(scope="module")
def path(records, tmp_path_factory):
    """A page of two runs; the second is the first with hostile words in it."""
    hostile = json.loads(json.dumps(records))
    for r in hostile:
        r["detail"] = EVIL
        for m in r["messages"]:
            m["content"] = EVIL if m.get("content") else m.get("content")
            for c in m.get("tool_calls") or []:
                c["arguments"] = {EVIL: EVIL}
        for t in r["turns"]:
            t["text"] = EVIL
        r["turn_tokens"] = [[[EVIL, -1.0]] for _ in r["turn_tokens"]]
    hostile[0] |= {"termination": "length", "reward": 0.0}
    out = tmp_path_factory.mktemp("page") / "report.html"
    page.write(
        page.Page(
            title=f"A {EVIL} page",
            runs=[stage("first", records), stage(f"hostile {EVIL}", hostile)],
            facts=[EVIL],
            snippet=EVIL,
        ),
        out,
    )
    return out


def test_what_was_sampled_is_recorded(records, tokenizer):
    for r in records:
        assert len(r["turn_tokens"]) == sum(t["end"] > t["start"] for t in r["turns"])
        for turn, tokens in zip((t for t in r["turns"] if t["end"] > t["start"]), r["turn_tokens"]):
            assert "".join(piece for piece, _ in tokens).removesuffix("<|im_end|>") == turn["text"] and all(
                lp <= 0 for _, lp in tokens
            )


def test_each_agent_message_has_its_turn(records):
    for r in records:
        body = conversations.body(r)
        own = [m for m in body["messages"] if m["turn"]]
        assert len(own) == len(r["turns"]) and [m["turn"]["partial"] for m in own] == [t["partial"] for t in r["turns"]]
        assert body["messages"][0]["role"] == "assistant" and body["messages"][0]["turn"] is None, (
            "tau2's greeting is nobody's turn"
        )
    phones = conversations.body(next(r for r in records if r["task_id"].startswith("phones")))
    assert {kind: counts for _, kind, _, counts in phones["checks"]} == {
        "database": False,
        "the agent's action": False,
        "the user's action": False,
        "assertion": True,
    }
    assert "assert_online({}) should be true" in [what for _, kind, what, _ in phones["checks"] if kind == "assertion"]
    turns = records[0]["turns"]
    assert all(
        m["by"] != "unsent" for m in conversations.body(records[0] | {"termination": "policy_failure"})["messages"]
    ), "all were sent"
    cut = conversations.body(
        records[0] | {"termination": "length", "turns": [*turns[:-1], turns[-1] | {"sent": False}]}
    )
    assert cut["messages"][-1]["by"] == "unsent" and cut["messages"][-1]["text"] == records[0]["turns"][-1]["text"]


@browser
async def test_the_viewer_filters_and_shows_a_conversation(path, records, tmp_path):
    async with Chromium(tmp_path / "profile") as chrome:
        await chrome.open(path)
        assert (
            await chrome.run("document.getElementById('count').textContent")
            == f"{2 * len(records)} of {2 * len(records)}"
        )

        async def choose(field, value):
            await chrome.run(
                f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')); }})(document.getElementById('{field}'))"
            )
            return int((await chrome.run("document.getElementById('count').textContent")).split()[0])

        assert await choose("f0", "first") == len(records)
        won = sum(r["reward"] == 1.0 for r in records)
        assert await choose("outcome", "won") == won and await choose("outcome", "lost") == len(records) - won
        assert await choose("outcome", "") == len(records) and await choose("f1", "phones") == len(records) // 3
        first = await chrome.run("shown[0]")
        await chrome.run(f"show({first})")
        seen = await chrome.run("document.getElementById('talk').textContent")
        record = records[first]
        assert record["task_id"] in seen and record["messages"][1]["content"] in seen and "calls " in seen
        shaded = await chrome.run("document.querySelectorAll('#talk .token').length")
        assert shaded == sum(len(t) for t in record["turn_tokens"])
        await choose("shade", "")
        await chrome.run("document.getElementById('shade').click()")
        await chrome.run(f"show({first})")
        assert await chrome.run("document.querySelectorAll('#talk .token').length") == 0
        folded = await chrome.run("[...document.querySelectorAll('#talk details')].every(d => !d.open)")
        assert folded and await chrome.run("document.querySelectorAll('#talk .checks li').length") > 0
        assert [u for u in chrome.requests if not u.startswith(("file:", "blob:", "data:"))] == [], "no network"


@browser
async def test_a_fault_is_told_above_the_conversation_and_marks_its_message(records, tmp_path):
    unread = json.loads(json.dumps(records[0])) | {"termination": "agent_error", "reward": 0.0}
    page.write(page.Page(title="faults", runs=[stage("run", [unread])]), tmp_path / "report.html")
    async with Chromium(tmp_path / "profile") as chrome:
        await chrome.open(tmp_path / "report.html")
        assert "agent: malformed calls or an empty turn ended it" in await chrome.run("document.body.textContent")
        await chrome.run("show(0)")
        assert "agent's fault: unreadable" in await chrome.run("document.querySelector('#talk .fault').textContent")
        await chrome.run("document.querySelector('#talk .fault').click()")
        marked = await chrome.run("[...document.querySelectorAll('#talk .marked')].map(m => m.className)")
        assert len(marked) == 1 and "assistant" in marked[0]


@browser
async def test_nobodys_words_become_markup(path, records, tmp_path):
    async with Chromium(tmp_path / "profile") as chrome:
        await chrome.open(path)
        for n in range(len(records), 2 * len(records)):
            await chrome.run(f"show({n})")
        assert EVIL in await chrome.run("document.getElementById('talk').textContent"), "it is shown as it is"
        assert await chrome.run("window.pwned") is None
        assert await chrome.run("document.querySelectorAll('img, b:not(.won):not(.lost):not(.none)').length") == 0
        assert await chrome.run("document.scripts.length") == 3


@pytest.mark.parametrize("kind, mark", [("quickstart", "settings.json"), ("study", "study.json")])
def test_a_quickstart_or_a_study_is_reported_alone(cli, tmp_path, kind, mark):
    own, run = tmp_path / "own", run_files.write(tmp_path / "run", {"1": [1.0]})
    own.mkdir()
    (own / mark).write_text("{}")
    (own / "report.html").write_text("as it was")
    page = ("--output", tmp_path / "x.html")
    for order in ((own, run), (run, own)):
        code, _, error = cli("report", *order, *page)
        assert code == 2 and f"error: {own} is a {kind}, which has a report of its own: name it alone" in error
    (tmp_path / "prices.yaml").write_text("{}")
    code, _, error = cli("report", own, "--prices", tmp_path / "prices.yaml")
    assert code == 2 and f"--prices: a {kind}'s report has no such thing" in error
    if kind == "study":
        assert "--output: a study's report has no such thing" in cli("report", own, *page)[2]
    assert (own / "report.html").read_text() == "as it was" and not (tmp_path / "x.html").exists()
