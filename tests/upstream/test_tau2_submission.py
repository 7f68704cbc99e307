"""From a run to tau2's leaderboard: what `export-tau2` writes passes tau2's own commands, on the base split of three
domains.

The agent is the gold script. The judge of retail's assertions (v1.0.x) is a server that finds everything met, ours and
tau2's alike.
"""

import ast
import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from aiohttp import web
from fake_openai import FakeOpenAI

from slime_tau2 import bench
from slime_tau2.types import is_success

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(
        bench.VINTAGE.name == "pypi", reason="tau2's own repository is not on the path (README, 'tau2 itself')"
    ),
]
ATTEMPTS = {"airline": 1, "retail": 1, "telecom": 2}
TASKS = {"airline": 50, "retail": 114, "telecom": 114}
ANSWERS = [
    "",
    "",
    "An organisation",
    "",
    "me@example.org",
    "",
    "",
    "n",
    "custom",
    "",
    "",
    "",
    "gold script",
    "n",
    "n",
    "n",
    "",
]
"""What v1.0.x's `tau2 submit prepare` asks, in its order: model, user, who made it, who ran it, address, … (an empty
line takes the default).
"""


def all_met(body: dict) -> web.Response:
    """What a judge says who finds every expectation met, with the fields that tau2's client (litellm) wants."""
    listed = body["messages"][-1]["content"].partition("expectedOutcomes:")[2].strip()
    asked = ast.literal_eval(listed) if listed else []  # the probe before a run asks of none
    results = [{"expectedOutcome": e, "reasoning": "seen", "metExpectation": True} for e in asked]
    said = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": json.dumps({"results": results})},
    }
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return web.json_response(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [said],
            "usage": usage,
        }
    )


async def call(*command: object, url: str, answers: str = "") -> str:
    """Run a command to its end with the judge at `url`; returns what it printed."""
    env = os.environ | {"OPENAI_API_KEY": "planted", "OPENAI_API_BASE": url, "OPENAI_BASE_URL": url, "COLUMNS": "200"}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *map(str, command),
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out = (await child.communicate(answers.encode()))[0].decode()
    assert child.returncode == 0, out[-4000:]
    return out


async def exported(domain: str, directory: Path, url: str) -> Path:
    """The results file of the gold script on a domain's base split."""
    command = ("-m", "slime_tau2.cli")
    run, path = directory / domain, directory / "results" / f"{domain}.json"
    out = await call(
        *command,
        "eval",
        "--domain",
        domain,
        "--split",
        "base",
        "--policy",
        "gold",
        "--attempts",
        ATTEMPTS[domain],
        "--output",
        run,
        "--set",
        f"judge_base_url={url}",
        url=url,
    )
    count = TASKS[domain] * ATTEMPTS[domain]
    assert f"{count} of {count} attempts scored; {count} earned reward 1.0" in out
    out = await call(*command, "export-tau2", run, "--output", path, "--model-name", "gold-script", url=url)
    assert f"{count} simulations written" in out and "would not take it" not in out
    return path


async def prepared(results: Path, output: Path, url: str) -> None:
    """`submit prepare` and `validate`, of v1.0.x: before, the first wants four trials of each task and the second
    compares per cent with shares.
    """
    tau2 = ("-m", "tau2.cli", "submit")
    out = await call(*tau2, "prepare", results, "-o", output, url=url, answers="\n".join([*ANSWERS, ""]))
    assert "❌" not in out
    (made,) = output.glob("**/submission.json")
    out = await call(*tau2, "validate", made.parent, url=url)
    assert "Submission metrics validation successful" in out and "❌" not in out
    submission = json.loads(made.read_text())
    assert submission["model_name"] == "gold-script" and {submission["results"][d]["pass_1"] for d in TASKS} == {100.0}


async def test_a_base_run_passes_tau2s_own_commands(tmp_path):
    tau2 = ("-m", "tau2.cli")
    async with FakeOpenAI(all_met) as judge:
        paths = [await exported(domain, tmp_path, judge.url) for domain in TASKS]
        out = await call(*tau2, "submit", "verify-trajs", *paths, url=judge.url)
        assert (
            out.count("✅ Tasks validation") == out.count("✅ Trial count validation") == 3
            and "All files passed all checks" in out
        )
        if bench.VINTAGE.name == "v1":
            await prepared(paths[0].parent, tmp_path / "out", judge.url)
        await call(*tau2, "evaluate-trajs", *paths, "-o", tmp_path / "again", url=judge.url)
    for path in paths:
        ours, theirs = (
            json.loads(p.read_text())["simulations"] for p in (path, tmp_path / "again" / f"updated_{path.name}")
        )
        assert [s["reward_info"]["reward"] for s in ours] == [s["reward_info"]["reward"] for s in theirs]
        assert all(is_success(s["reward_info"]["reward"]) for s in theirs) and len(theirs) == len(ours) > 0


async def test_what_the_leaderboard_would_refuse_is_said_at_the_export(tmp_path):
    async with FakeOpenAI(all_met) as judge:
        await call(
            "-m",
            "slime_tau2.cli",
            "eval",
            "--domain",
            "retail",
            "--policy",
            "noop",
            "--set",
            "retail_basis=communicate",
            "--output",
            tmp_path / "r",
            url=judge.url,
        )
        path = tmp_path / "r.json"
        out = await call("-m", "slime_tau2.cli", "export-tau2", tmp_path / "r", "--output", path, url=judge.url)
        assert "would not take it: it holds 40 of the 114 tasks of split base" in out
        assert ("with retail_basis=communicate: retail_basis=judge" in out) == (bench.VINTAGE.name == "v1")
        with pytest.raises(AssertionError, match="Missing tasks"):
            await call("-m", "tau2.cli", "submit", "verify-trajs", path, url=judge.url)
