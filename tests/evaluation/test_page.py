"""report.html in a real browser: what it shows, that it filters, and that nobody's words become markup."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
import run_files
from chromium import BINARY, REASON, Chromium
from fake_policy import FakePolicy, teacher_reply

from slime_tau2.config import Tau2Config
from slime_tau2.episode import worlds
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.evaluation import check_places, conversations, costs, failures, page, page_index, runner, runs
from slime_tau2.evaluation.plan import RunPlan, TaskSet
from slime_tau2.evaluation.players import turn_tokens
from slime_tau2.evaluation.shown import ShownRun, writes

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
    tasks = list(dict.fromkeys((r["domain"], r["task_id"]) for r in records))
    return ShownRun(name=name, records=records, tasks=tasks, attempts=2)


def hostile(records):
    """The same records, full of words that would be markup."""
    out = json.loads(json.dumps(records))
    for r in out:
        r["detail"] = EVIL
        for m in r["messages"]:
            m["content"] = EVIL if m.get("content") else m.get("content")
            for c in m.get("tool_calls") or []:
                c["arguments"] = {EVIL: EVIL}
        for t in r["turns"]:
            t["text"] = EVIL
        r["turn_tokens"] = [[[EVIL, -1.0]] for _ in r["turn_tokens"]]
        for place in (r["database_difference"] or {"places": []})["places"]:
            place |= {"path": EVIL, "found": EVIL, "wanted": EVIL}
    out[0] |= {"termination": "length", "reward": 0.0}
    return out


@pytest.fixture(scope="module")
def path(records, tmp_path_factory):
    """A page of two runs; the second is the first with hostile words in it."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    training = [{"stage": "sft", "step": n, "loss": 1 / n} for n in (1, 2, 3)]
    training += [{"stage": "grpo", "step": n, "rollout/reward": n / 10} for n in (1, 2, 3)]
    page.write(
        page.Page(
            title=f"A {EVIL} page",
            runs=[stage("first", records), stage(f"hostile {EVIL}", hostile(records))],
            facts=[EVIL],
            training=training,
            snippet=EVIL,
        ),
        out,
    )
    return out


@asynccontextmanager
async def opened(path, tmp_path, fragment=""):
    """A browser in which the page can be used."""
    async with Chromium(tmp_path / "profile") as chrome:
        await chrome.open(path, fragment)
        await chrome.until("Report.ready && document.querySelectorAll('#curves canvas').length === 2")
        yield chrome


async def choose(chrome, field, value):
    """Set a filter; returns how many conversations fit."""
    await chrome.run(
        f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event(e.id === 'find' ? 'input' : 'change')); }})(document.getElementById('{field}'))"
    )
    return int((await chrome.run("document.getElementById('count').textContent")).split()[0])


async def press(chrome, key):
    await chrome.run(
        f"document.body.dispatchEvent(new KeyboardEvent('keydown', {{ key: {json.dumps(key)}, bubbles: true }}))"
    )
    await chrome.run("new Promise(done => setTimeout(done, 100))")


def test_what_was_sampled_is_recorded(records, tokenizer):
    for r in records:
        assert len(r["turn_tokens"]) == sum(t["end"] > t["start"] for t in r["turns"])
        for turn, tokens in zip((t for t in r["turns"] if t["end"] > t["start"]), r["turn_tokens"]):
            assert "".join(piece for piece, _ in tokens).removesuffix("<|im_end|>") == turn["text"] and all(
                lp <= 0 for _, lp in tokens
            )


def test_each_agent_message_has_its_turn(records):
    for r in records:
        messages = conversations.talk(r)["messages"]
        own = [m for m in messages if "turn" in m]
        assert len(own) == len(r["turns"]) and [m["turn"]["partial"] for m in own] == [t["partial"] for t in r["turns"]]
        assert messages[0]["role"] == "assistant" and "turn" not in messages[0], "tau2's greeting is nobody's turn"
        made = [(m["turn"]["index"], [c["gain"] for c in m["calls"]]) for m in own if m["calls"]]
        assert made == [(t["index"], [c["gain"] for c in t["by_call"]]) for t in r["turns"] if t["by_call"]]
    turns = records[0]["turns"]
    sent = conversations.talk(records[0] | {"termination": "policy_failure"})["messages"]
    assert all(m["by"] != "unsent" for m in sent), "all were sent"
    cut = records[0] | {"termination": "length", "turns": [*turns[:-1], turns[-1] | {"sent": False}]}
    last = conversations.talk(cut)["messages"][-1]
    assert last["by"] == "unsent" and last["text"] == records[0]["turns"][-1]["text"]


def test_each_check_leads_to_the_message_that_met_or_missed_it(records):
    phones = next(r for r in records if r["task_id"].startswith("phones"))
    checks = conversations.talk(phones, writes=writes("helpdesk"))["checks"]
    assert {check["kind"]: check["counts"] for check in checks} == {
        "database": False,
        "the agent's action": False,
        "the user's action": False,
        "assertion": True,
    }
    assert "assert_online({}) should be true" in [check["what"] for check in checks if check["kind"] == "assertion"]
    seen = set()
    for r in records:
        for check in conversations.talk(r, writes=writes("helpdesk"))["checks"]:
            if check["kind"].endswith("action") and check["at"] is not None:
                calls = r["messages"][check["at"]]["tool_calls"]
                assert check["what"].partition("(")[0] in [call["name"] for call in calls]
                assert not check["met"] or check["what"] in [failures.called(call) for call in calls]
                seen.add(check["met"])
            if check["kind"] == "told" and check["met"]:
                assert check["what"].lower() in r["messages"][check["at"]]["content"].lower().replace(",", "")
            if check["kind"] in ("database", "assertion") and not check["met"]:
                shown = r["messages"][check["at"]]
                assert check["at"] == len(r["messages"]) - 1 or shown["tool_calls"]
            if check["kind"] == "assertion" and check["met"]:
                assert r["messages"][check["at"]]["role"] == "assistant"
    assert seen == {True, False}


def test_a_missed_call_leads_to_the_one_that_comes_closest(helpdesk):
    def call(ident, **arguments):
        made = {"id": ident, "name": "refund", "arguments": arguments, "requestor": "assistant"}
        return [
            {"role": "assistant", "tool_calls": [made]},
            {"role": "tool", "id": ident, "requestor": "assistant", "content": "", "error": False},
        ]

    wanted = {"name": "refund", "arguments": {"order_id": "W1", "amount": 5}}
    info = {"reward": 0.0, "reward_basis": ["ACTION"], "action_checks": [{"action": wanted, "action_match": False}]}
    messages = [
        *call("a", order_id="W2", amount=7),
        *call("b", order_id="W1", amount=7),
        *call("c", order_id="W3", amount=6),
    ]
    record = run_files.record("helpdesk", "t", 0, 0.0, messages=messages, reward_info=info)
    assert [check["at"] for check in check_places.checks(record, writes("helpdesk"))] == [2]


def test_an_attempts_cost_is_that_of_all_its_models(records):
    price = costs.Price(prompt=1.0, completion=2.0)
    run = ShownRun(name="r", records=[], tasks=[], attempts=1, settings={"model": "m", "user_model": "u"})
    counts = {"requests": 1, "prompt": 10**6, "cached": 0, "completion": 10**6}
    record = records[0] | {"usage": {"policy": counts, "user": counts}}
    assert run.cost(record, {"m": price, "u": price}) == 6.0
    assert run.cost(record, None) is None and run.cost(records[0] | {"usage": {}}, {"m": price}) is None


def test_runs_of_a_domain_each_stand_beside_one_of_all(tmp_path):
    """Of several domains each has its row; what is over only some of them is not called overall."""
    some = run_files.write(tmp_path / "a", {"airline": {"0": [1.0, 0.0], "1": [1.0, 1.0]}})
    whole = run_files.write(tmp_path / "b", {"airline": {"0": [0.0, 0.0]}, "retail": {"0": [1.0, 1.0]}})
    shown = [ShownRun.of(run) for run in runs.load_all([some, whole])]
    lines = page_index.by_task(shown)
    index = page_index.index(shown, lines, [len(found) for found in lines.values()], None)
    rows = [{row: cells["pass@1"][0] for row, cells in run["scores"].items()} for run in index["runs"]]
    assert rows == [{"airline": 75.0}, {"overall": 50.0, "mean of domains": 50.0, "airline": 0.0, "retail": 100.0}]
    assert index["groups"] == ["airline", "retail"] and len(index["talks"]["run"]) == 8


@browser
async def test_the_viewer_filters_and_shows_a_conversation(path, records, tmp_path):
    async with opened(path, tmp_path) as chrome:
        count = len(records)
        assert await chrome.run("document.getElementById('count').textContent") == f"{2 * count} of {2 * count}"
        assert await choose(chrome, "run", "0") == count
        won = sum(r["reward"] == 1.0 for r in records)
        assert await choose(chrome, "outcome", "won") == won and await choose(chrome, "outcome", "lost") == count - won
        assert await choose(chrome, "outcome", "") == count and await choose(chrome, "group", "phones") == count // 3
        assert await choose(chrome, "find", "phones_250") == count // 6
        key = await chrome.run("Report.list.shown()[0].key")
        await chrome.run(f"Report.show({key})")
        record = next(r for r in records if (r["task_id"], r["attempt"]) == ("phones_250", 0))
        seen = await chrome.run("document.querySelector('.pane').textContent")
        task = worlds.load("helpdesk").task("phones_250")
        for words in (
            record["task_id"],
            record["messages"][1]["content"],
            "calls ",
            task.user_scenario.instructions.known_info,
        ):
            assert words in seen, words
        assert worlds.load("helpdesk").policy[:60] in seen and "This task across runs" in seen
        await choose(chrome, "shade", "sampler")
        await chrome.run("new Promise(done => setTimeout(done, 100))")
        shaded = await chrome.run("document.querySelectorAll('.pane .token').length")
        assert shaded == sum(len(t) for t in record["turn_tokens"])
        await choose(chrome, "shade", "trainer")
        await chrome.run("new Promise(done => setTimeout(done, 100))")
        assert await chrome.run("document.querySelectorAll('.pane .token').length") == 0, "no trainer's log-probs here"
        assert await chrome.run("[...document.querySelectorAll('.talk details')].every(d => !d.open)")
        assert await chrome.run("document.querySelectorAll('.pane .checks li').length") > 0
        assert await chrome.run("document.querySelectorAll('#training canvas').length") == 3
        assert [u for u in chrome.requests if not u.startswith(("file:", "blob:", "data:"))] == [], "no network"


@browser
async def test_the_address_names_what_is_open_and_opens_it(path, records, tmp_path):
    async with opened(path, tmp_path, "#first/refunds_250/1/1&first/refunds_251/0") as chrome:
        await chrome.until("document.querySelectorAll('.pane .talk').length === 2")
        titles = await chrome.run("[...document.querySelectorAll('.pane .title b')].map(b => b.textContent.slice(2))")
        assert titles == ["refunds_250, attempt 1", "refunds_251, attempt 0"]
        assert "turn 1" in await chrome.run("document.querySelector('.talk .at').textContent")
        await press(chrome, "Escape")
        await chrome.run("new Promise(done => setTimeout(done, 300))")
        inside = "(() => { const box = e => e.getBoundingClientRect(), list = box(document.getElementById('list')), row = box(document.querySelector('#list .picked')); return row.top >= list.top && row.bottom <= list.bottom + 1; })()"
        assert await chrome.run(inside), "the list shows the row of what is open"
        await press(chrome, "Escape")
        assert (
            await chrome.run("location.hash") == ""
            and await chrome.run("document.querySelectorAll('.pane').length") == 0
        )
        await press(chrome, "k")
        assert await chrome.run("location.hash") == "#first/refunds_250/0", "the list goes on where the reader was"
        await press(chrome, "n")
        assert await chrome.run("location.hash") == "#first/refunds_250/0/0", "the turn is in the address"
        await press(chrome, "]")
        assert await chrome.run("location.hash") == "#first/refunds_250/1", "the same task's next attempt"
        await press(chrome, "c")
        assert await chrome.run("document.querySelectorAll('.pane').length") == 2
        assert (await chrome.run("location.hash")).count("&") == 1
        await press(chrome, "Escape")
        await press(chrome, "k")
        assert await chrome.run("document.querySelectorAll('.pane').length") == 1


@browser
@pytest.mark.parametrize("fragment", ["#%E0%A4%A", "#nobody/nothing/0", "#first/orders_250", "#first/orders_250/x/y&"])
async def test_an_address_that_names_nothing_opens_nothing(path, records, tmp_path, fragment):
    async with opened(path, tmp_path, fragment) as chrome:
        assert await chrome.run("document.querySelectorAll('.pane').length") == 0
        assert await chrome.run("Report.list.shown().length") == 2 * len(records)
        await press(chrome, "j")
        assert await chrome.run("document.querySelectorAll('.pane').length") == 1
        await chrome.run("history.back()")
        await chrome.until("document.querySelectorAll('.pane').length === 0")


@browser
async def test_runs_are_columns_and_what_is_chosen_counts(path, records, tmp_path):
    heads = "[...document.querySelectorAll('#summary thead th')].slice(1).map(t => t.textContent)"
    async with opened(path, tmp_path) as chrome:
        assert await chrome.run(heads) == ["first", f"hostile {EVIL}"]
        rows = await chrome.run(
            "Object.fromEntries([...document.querySelectorAll('#summary tbody tr')].map(r => [r.firstChild.firstChild.textContent, [...r.children].slice(1).map(c => c.textContent)]))"
        )
        assert rows["attempts"] == ["12", "12"] and {"overall", "orders", "phones", "refunds"} <= rows.keys()
        label, button = (
            "wrong argument",
            "[...document.querySelectorAll('#summary tbody tr')].find(r => r.textContent.startsWith('wrong argument')).querySelector('button')",
        )
        lost = sum(f.kind == label for f in stage("first", records).failures)
        assert lost and rows[label][0].startswith(str(lost))
        await chrome.run(f"{button}.click()")
        assert await chrome.run("Report.list.shown().length") == lost, "a number opens its conversations"
        await chrome.run("document.getElementById('all').click()")
        await chrome.run("document.querySelectorAll('#runs input')[1].click()")
        assert await chrome.run(heads) == ["first"] and await chrome.run("Report.list.shown().length") == len(records)
        await chrome.run("document.querySelectorAll('#groups input')[0].click()")
        assert await chrome.run("Report.list.shown().length") == 2 * len(records) // 3
        text = await chrome.run("document.getElementById('summary').textContent")
        assert "phones" in text and "orders" not in text and "overall" not in text, "no score over what is not chosen"
        await chrome.run("document.getElementById('tasks').open = true")
        await chrome.until("document.querySelectorAll('#across .mark').length")
        await chrome.run("document.querySelector('#across .mark').click()")
        await chrome.until("document.querySelector('.pane .title')")


@browser
async def test_a_fault_a_check_and_a_difference_lead_to_what_they_are_about(records, tmp_path):
    unread = json.loads(json.dumps(records[0])) | {"termination": "agent_error", "reward": 0.0}
    other = next(r for r in records if r["database_difference"] and r["task_id"] != unread["task_id"])
    page.write(page.Page(title="faults", runs=[stage("run", [unread, other])]), tmp_path / "report.html")
    async with opened(tmp_path / "report.html", tmp_path) as chrome:
        assert "agent: malformed calls or an empty turn ended it" in await chrome.run("document.body.textContent")
        await chrome.run("Report.show(Report.talks.findIndex(t => t.ended === 'agent_error'))")
        assert "agent's fault: unreadable" in await chrome.run("document.querySelector('.pane .fault').textContent")
        await chrome.run("document.querySelector('.pane .fault button').click()")
        marked = await chrome.run("[...document.querySelectorAll('.talk .marked.at')].map(m => m.className)")
        assert len(marked) == 1 and "assistant" in marked[0]
        await chrome.run("Report.show(Report.talks.findIndex(t => t.ended !== 'agent_error'))")
        told = await chrome.run("[...document.querySelectorAll('.differs tr')].slice(1).map(r => r.textContent)")
        places = other["database_difference"]["places"]
        assert len(told) == 2 * len(places) and all(
            p["key"] in line and p["path"] in line for p, line in zip(places, told[::2])
        )


@browser
@pytest.mark.parametrize("width", [1400, 800, 420])
async def test_nothing_is_wider_than_the_window(path, tmp_path, width):
    """At each width, with nothing, one and two conversations open; tables scroll within themselves."""
    async with opened(path, tmp_path) as chrome:
        for dark in (False, True):
            await chrome.look(width, 900, dark=dark)
            for how in ("0", "Report.show(0)", "Report.beside()"):
                await chrome.run(how)
                await chrome.run("new Promise(done => setTimeout(done, 150))")
                wide = await chrome.run(
                    "[document.documentElement.scrollWidth, ...[...document.querySelectorAll('.pane, .pane .body, #list, .message')].filter(e => e.offsetParent).map(e => Math.ceil(e.getBoundingClientRect().right))]"
                )
                assert max(wide) <= width, (how, wide)
            paper = await chrome.run("getComputedStyle(document.body).backgroundColor")
            assert (paper == "rgb(255, 255, 255)") != dark
            await press(chrome, "Escape")
            await press(chrome, "Escape")


@browser
async def test_nobodys_words_become_markup(path, records, tmp_path):
    async with opened(path, tmp_path) as chrome:
        scripts = await chrome.run("document.scripts.length")
        for n in range(2 * len(records)):
            await chrome.run(f"Report.show({n})")
        await choose(chrome, "shade", "sampler")
        assert EVIL in await chrome.run("document.querySelector('.pane').textContent"), "it is shown as it is"
        assert await chrome.run("window.pwned") is None
        assert await chrome.run("document.querySelectorAll('img, iframe, object').length") == 0
        assert await chrome.run("[...document.querySelectorAll('b')].every(b => b.textContent !== 'bold')")
        assert await chrome.run("document.scripts.length") == scripts


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
