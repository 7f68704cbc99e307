"""`slime-tau2 rollouts`: which dump a directory holds, what the index says of it, and the page in a real browser."""

import asyncio
import json
import shutil
import subprocess
import sys

import aiohttp
import pytest
from chromium import BINARY, REASON, Chromium
from rollout_dumps import large_part, rollout_part, trainer_part

from slime_tau2.dumps.arrays import pack_floats, pack_ids, unpack_floats
from slime_tau2.dumps.store import FOLDER, Dump
from slime_tau2.errors import ConfigError
from slime_tau2.rollouts import live, page
from slime_tau2.rollouts.found import find
from slime_tau2.rollouts.reader import Reader

browser = pytest.mark.skipif(BINARY is None, reason=REASON)


@pytest.fixture
def run(tmp_path):
    """A run's directory with three rollouts; trainers have spoken of the first two."""
    dump = Dump(tmp_path / "grpo" / FOLDER)
    for rollout in range(3):
        dump.write_rollout(rollout_part(rollout))
    for rollout in range(2):
        dump.write_trainer(trainer_part(rollout), rank=0)
    return tmp_path


def read(directory):
    reader = Reader(find(directory))
    assert reader.refresh()
    return reader


def named(index, what):
    return [dict(zip(index[f"{what}_fields"], row)) for row in index[f"{what}s"]]


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "slime_tau2.cli", "rollouts", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )


# --- which dump


def test_a_runs_directory_leads_to_its_dump(run):
    for place in (run, run / "grpo", run / "grpo" / FOLDER):
        assert find(place).directory == run / "grpo" / FOLDER
    shutil.copytree(run / "grpo", run / "again")
    with pytest.raises(ConfigError, match=r"the rollouts of 2 trainings; name one: .*again, .*grpo"):
        find(run)


def test_what_holds_no_rollouts_says_what_would(tmp_path):
    with pytest.raises(ConfigError, match=r"is no directory; name the one"):
        find(tmp_path / "absent")
    with pytest.raises(ConfigError, match="tau2_dump is above 0"):
        find(tmp_path)


# --- the index


def test_the_index_has_every_group_and_sample(run):
    index = read(run).index()
    groups, samples = named(index, "group"), named(index, "sample")
    assert [s["step"] for s in index["steps"]] == [0, 1, 2] and index["stale"] == []
    assert [(g["step"], g["group"], g["fate"], g["count"]) for g in groups[:3]] == [
        (0, 0, "trained", 2),
        (0, 1, "dropped", 2),
        (0, 2, "returned", 0),
    ]
    assert groups[0]["served"] == "order: pass 0, place 0" and groups[2]["served"] == "returned: the batch was full"
    assert len(samples) == sum(g["count"] for g in groups) == 12
    first, second, dropped = samples[:3]
    assert (first["reward"], first["training_reward"], first["advantage"]) == (1.0, 1.0, 0.5)
    assert (first["log_prob"], first["trainer"], first["apart"]) == (-0.5, -0.5312, pytest.approx(0.0625))
    assert (second["tokens"], second["trainer"], dropped["tokens"]) == (1, None, 0)
    assert json.loads(json.dumps(index, allow_nan=False))["version"] == 1


def test_tokens_have_the_trainers_numbers_beside_the_samplers(run):
    reader = read(run)
    told = reader.tokens(0)
    assert set(told["samples"]) == {"0.0", "1.0"} and told["pieces"]["8"] == "<script>"
    assert unpack_floats(told["samples"]["0.0"]["trainer"]) == [-0.5, -0.25, -1.25, -0.125]
    assert "trainer" not in told["samples"]["1.0"] and unpack_floats(told["samples"]["1.0"]["advantages"]) == [-0.5] * 4
    with pytest.raises(ConfigError, match="no rollout 9"):
        reader.tokens(9)


def test_shares_of_context_parallel_ranks_become_whole(run):
    part = trainer_part(2)
    (sample,) = part["samples"]
    for rank, at in enumerate(([0, 3], [2])):
        numbers = pack_floats([-1.0 - n for n in at])
        told = {**sample, "at": pack_ids(at), "log_probs": numbers, "advantages": None}
        Dump(run / "grpo" / FOLDER).write_trainer({**part, "samples": [told]}, rank)
    values = unpack_floats(read(run).tokens(2)["samples"]["12.0"]["trainer"])
    assert [values[n] for n in (0, 2, 3)] == [-1.0, -3.0, -4.0] and values[1] != values[1], "nobody had that one"


def test_a_trainer_that_had_other_tokens_is_counted_and_not_shown(run):
    part = trainer_part(2)
    part["samples"][0]["crc"] += 1
    Dump(run / "grpo" / FOLDER).write_trainer(part, 0)
    reader = read(run)
    assert reader.index()["steps"][2]["others"] == 1 and "trainer" not in reader.tokens(2)["samples"]["12.0"]


def test_what_changes_is_read_anew_and_what_is_gone_goes(run):
    reader = read(run)
    assert not reader.refresh() and reader.version == 1
    dump = Dump(run / "grpo" / FOLDER)
    dump.write_trainer(trainer_part(2), rank=0)
    assert reader.refresh() and reader.version == 2
    dump.write_rollout(rollout_part(3))
    shutil.rmtree(dump.directory / "00000000")
    assert reader.refresh() and [s["step"] for s in reader.index()["steps"]] == [1, 2, 3]


def test_rollouts_of_before_a_resume_are_left_out_until_they_are_made_again(run):
    dump = Dump(run / "grpo" / FOLDER)
    dump.write_rollout(rollout_part(1, written=5000.0))
    reader = read(run)
    assert [s["step"] for s in reader.index()["steps"]] == [0, 1] and reader.index()["stale"] == [2]
    done = command(run)
    assert done.returncode == 0 and "left out, of before the run was resumed: rollouts [2]" in done.stdout
    dump.write_rollout(rollout_part(2, written=5001.0))
    assert reader.refresh() and reader.index()["stale"] == []


# --- the command


def test_the_command_writes_the_page_and_names_what_is_broken(run):
    done = command(run)
    assert done.returncode == 0 and "3 rollouts, 9 groups, 12 samples" in done.stdout, done.stderr
    assert (run / "rollouts.html").read_text().startswith("<!doctype html>")
    assert command(run).returncode == 0, "it replaces its own page"
    (run / "notes.md").write_text("mine")
    refused = command(run, "--output", run / "notes.md")
    assert refused.returncode == 2 and "exists and is no page" in refused.stderr
    assert "leave --output out" in command(run, "--live", "--output", run / "x.html").stderr
    broken = run / "grpo" / FOLDER / "00000001" / "rollout.json.gz"
    broken.write_bytes(broken.read_bytes()[:-20])
    refused = command(run)
    assert (
        refused.returncode == 2
        and str(broken) in refused.stderr.replace("\n", "")
        and "Traceback" not in refused.stderr
    )


# --- in a browser


READY = "window.pageReady > 0"
TEXT = "document.getElementById('shown').textContent"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("large")
    dump = Dump(directory / FOLDER)
    for rollout in range(6):
        dump.write_rollout(large_part(rollout, groups=6, size=8, tokens=160) if rollout else rollout_part(0))
    dump.write_trainer(trainer_part(0), rank=0)
    reader = read(directory)
    page.write(reader, directory / "rollouts.html")
    return directory / "rollouts.html"


@browser
async def test_the_page_leads_from_a_step_to_a_token(written, tmp_path):
    async with Chromium(tmp_path) as chrome:
        await chrome.open(written)
        await chrome.until(READY)
        assert "6 steps, 33 groups, 244 samples" in await chrome.run("document.getElementById('told').textContent")
        await chrome.run("document.querySelector('[data-tab=steps]').click()")
        await chrome.until("document.querySelectorAll('#steps .tabulator-row').length === 6")
        await chrome.run("document.querySelector('#steps .tabulator-row').click()")
        await chrome.until(f"{TEXT}.includes('order in which they were served')")
        said = await chrome.run(TEXT)
        for words in ("order: pass 0, place 0", "dropped: all_0.0", "returned: the batch was full", "1 still out"):
            assert words in said
        await chrome.run("document.querySelector('#shown tr[tabindex]').click()")
        await chrome.until(f"{TEXT}.includes('why it came next')")
        await chrome.run("document.querySelectorAll('#shown tr[tabindex]')[0].click()")
        await chrome.until("document.querySelectorAll('#shown .message').length === 3")
        said = await chrome.run(TEXT)
        for words in ("in training 1.000", "+0.5000", "sampler −0.5000, trainer −0.5312, apart 0.0625", "forbidden"):
            assert words in said, words
        tokens = await chrome.run(
            "[...document.querySelectorAll('#shown .token')].map((t) => [t.textContent, t.title])"
        )
        assert tokens[2] == ["t7 ", "log-prob -1, trainer's -1.25, advantage 0.5"]
        assert tokens[3][0] == "<script>", "what was said is text"
        assert await chrome.run("location.hash") == "#0/0/0"
        assert [url for url in chrome.requests if not url.startswith(("file:", "data:"))] == []


@browser
async def test_an_address_opens_what_it_names_and_filters_narrow_the_lists(written, tmp_path):
    async with Chromium(tmp_path) as chrome:
        await chrome.open(written)
        await chrome.until(READY)
        await chrome.run("location.hash = '#3/20/162/1'")
        await chrome.until("document.querySelectorAll('#shown .message.assistant.at').length === 1")
        assert "turn 1" in await chrome.run("document.querySelector('#shown .at').textContent")
        await chrome.run("document.querySelector('[data-tab=samples]').click()")
        await chrome.until("document.getElementById('count').textContent === '244 of 244 samples'")
        change = "(() => {{ const e = document.getElementById('{0}'); e.value = '{1}'; e.dispatchEvent(new Event('{2}')); }})()"
        await chrome.run(change.format("step", "3", "change"))
        await chrome.until("document.getElementById('count').textContent === '48 of 244 samples'")
        await chrome.run(change.format("find", "orders_20", "input"))
        await chrome.until("document.getElementById('count').textContent === '8 of 244 samples'")
        await chrome.run(change.format("outcome", "out", "change"))
        await chrome.until("document.getElementById('count').textContent === '0 of 244 samples'")


@browser
@pytest.mark.parametrize("size", [(1400, 900), (800, 1000), (420, 1000)])
async def test_nothing_is_wider_than_the_window(written, tmp_path, size):
    async with Chromium(tmp_path, size) as chrome:
        await chrome.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        await chrome.open(written)
        await chrome.until(READY)
        for place in ("#0", "#0/0", "#3/20/162"):
            await chrome.run(f"location.hash = '{place}'")
            await chrome.until(f"document.getElementById('crumbs').childNodes.length === {2 * place.count('/') + 1}")
            assert await chrome.run("document.documentElement.scrollWidth") <= size[0], place


@browser
async def test_tokens_that_do_not_fit_into_the_file_are_said_to_be_elsewhere(written, tmp_path, monkeypatch):
    reader = read(written.parent)
    monkeypatch.setattr(page, "MOST_BYTES", reader.sizes()[5] * 2)
    assert page.write(reader, tmp_path / "part.html") == 5
    async with Chromium(tmp_path / "profile") as chrome:
        await chrome.open(tmp_path / "part.html")
        await chrome.until(READY)
        assert "tokens of the last 1 steps" in await chrome.run("document.getElementById('told').textContent")
        await chrome.run("location.hash = '#0/0/0'")
        await chrome.until(f"{TEXT}.includes('did not fit into this file')")
        await chrome.run("location.hash = '#5/30/240'")
        await chrome.until("document.querySelectorAll('#shown .token').length > 0")


# --- while a training runs


class Served:
    """`async with Served(directory) as url`."""

    def __init__(self, directory):
        self.reader = Reader(find(directory))

    async def __aenter__(self):
        told = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(live._serve(self.reader, 0, told.set_result))
        return await asyncio.wait_for(told, 10)

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_the_server_answers_this_machine_alone_and_says_what_is_new(run):
    async with Served(run) as url, aiohttp.ClientSession() as session:
        assert url.startswith("http://127.0.0.1:")
        first = await (await session.get(f"{url}index")).json()
        assert len(first["steps"]) == 3
        assert (await session.get(f"{url}index?have={first['version']}")).status == 204
        assert "0.0" in (await (await session.get(f"{url}rollout/0")).json())["samples"]
        assert "no rollout 7" in (await (await session.get(f"{url}rollout/7")).json())["error"]
        Dump(run / "grpo" / FOLDER).write_rollout(rollout_part(3))
        assert len((await (await session.get(f"{url}index?have={first['version']}")).json())["steps"]) == 4
        broken = run / "grpo" / FOLDER / "00000003" / "rollout.json.gz"
        broken.write_bytes(b"half")
        assert str(broken) in (await (await session.get(f"{url}index")).json())["error"]
        assert (await session.get(url, headers={"Host": "evil.example"})).status == 403


@browser
async def test_the_live_page_follows_the_training(tmp_path):
    dump = Dump(tmp_path / "run" / FOLDER)
    dump.directory.mkdir(parents=True)
    async with Served(tmp_path / "run") as url, Chromium(tmp_path / "profile") as chrome:
        await chrome.call("Page.navigate", url=url)
        await chrome.until(READY)
        told = "document.getElementById('told').textContent"
        assert "waiting for the first" in await chrome.run(told)
        dump.write_rollout(rollout_part(0))
        await chrome.until(f"{told}.includes('1 steps, 3 groups')")
        await chrome.run("location.hash = '#0/0/0'")
        await chrome.until("document.querySelectorAll('#shown .token').length === 4")
        assert "no log-probs of the trainer" in await chrome.run(TEXT)
        dump.write_trainer(trainer_part(0), rank=0)
        await chrome.until(f"{TEXT}.includes('trainer −0.5312')")
        dump.write_rollout(rollout_part(1))
        await chrome.until("document.getElementById('count').textContent === '6 of 6 groups'")
        assert await chrome.run("document.querySelectorAll('#shown .token').length") == 4, "what is read stays open"
        (dump.directory / "00000001" / "rollout.json.gz").write_bytes(b"half")
        await chrome.until(f"{told}.includes('not a whole gzip file')")


def test_a_port_that_is_taken_is_named(run):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command(run, "--live", "--port", port)
    assert done.returncode == 2 and f"port {port}" in done.stderr and "--port" in done.stderr
