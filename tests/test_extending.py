"""docs/extending.md: its code, taken out of the page, in a package of its own."""

import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from dataclasses import fields
from pathlib import Path

import pytest
from fake_openai import FakeOpenAI

from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.environments import CowDict
from slime_tau2.episode.harness import Harness
from slime_tau2.episode.scripts import script
from slime_tau2.episode.users import LLMUser
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation.scores import family
from slime_tau2.hooks import data_source
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.training_reward import training_reward
from slime_tau2.traits import Traits

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A folder with the page's modules, on the path. A domain is registered once a process, so that they are imported
    once, too.
    """
    tmp_path = tmp_path_factory.mktemp("scratch")
    for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / f"{name}.py").write_text(code)
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))


def test_the_pages_commands(scratch):
    commands = re.findall(r"^slime-tau2 eval .*?(?=\s+#|$)", PAGE, re.MULTILINE)
    assert len(commands) == 2
    rates = []
    for command in commands:
        arguments = command.split()[1:]
        done = subprocess.run(
            [sys.executable, "-m", "slime_tau2.cli", *arguments], cwd=scratch, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        summary = json.loads((scratch / arguments[arguments.index("--output") + 1] / "summary.json").read_text())
        rates.append((summary["scored"], summary["mean_reward"]))
    assert rates == [(2, 1.0), (2, 0.0)], "gold and do-nothing on the two test tasks"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["tasks", "--domain", "lockers", "--split", "test"], "open_7"),
        (["collect", "--domain", "lockers", "--policy", "gold", "--output", "c.jsonl"], "--policy gold is a script"),
        (["import-sft", "rows.jsonl", "--domain", "lockers", "--output", "i.jsonl"], "of test tasks 1"),
        (["check-sft", "rows.jsonl", "--tokenizer", str(TOKENIZER)], "of test tasks 1"),
        (["export-tau2", "outputs/lockers", "--output", "tau2.json"], "2 simulations written"),
        (["rft", "outputs/lockers/attempts.jsonl", "--output", "r.jsonl"], "of test tasks 2"),
        (["select", "outputs/lockers", "outputs/lockers_noop"], "2 of its 2 tasks are test tasks"),
        (["report", "outputs/lockers_noop"], "missing write, the agent's"),
    ],
)
def test_plugins_of_the_environment_serve_every_command(scratch, arguments, said):
    """In processes of their own, where nothing has registered the domain before. After the page's own commands."""
    row = {"messages": [{"role": "user", "content": "Locker 7"}, {"role": "assistant", "content": "open"}]}
    (scratch / "rows.jsonl").write_text(json.dumps(row | {"metadata": {"domain": "lockers", "task_id": "open_7"}}))
    done = subprocess.run(
        [sys.executable, "-m", "slime_tau2.cli", *arguments],
        cwd=scratch,
        env={**os.environ, "TAU2_PLUGINS": "lockers"},
        capture_output=True,
        text=True,
    )
    assert said in done.stdout + done.stderr and "unknown domain" not in done.stderr


async def test_a_user_without_a_model_on_the_new_domain(scratch):
    config = Tau2Config.from_mapping(
        {"plugins": ["lockers"], "user": "hurried:OneWish", "domains": ["lockers"]}, "test"
    )
    world, box = worlds.load("lockers"), Harness(config)
    # one script for two users: the gold script says its piece to one that only waits for something to be said
    episode = await box.run(world, "open_7", ScriptedAgent(script("gold", world.task("open_7"))), seed=1)
    await box.close()
    assert episode.reward == 1.0 and any(
        "locker 7" in (m.get("content") or "") for m in episode.messages if m["role"] == "user"
    )


async def test_a_domain_brings_its_traits(scratch):
    config = Tau2Config.from_mapping({"plugins": ["lockers"], "user": "scripted", "domains": ["lockers"]}, "test")
    world, box = worlds.load("lockers"), Harness(config)
    episode = await box.run(world, "open_7", ScriptedAgent(script("gold", world.task("open_7"))), seed=1)
    await box.close()
    assert episode.reward == 1.0 and any("You want locker 7" in (m.get("content") or "") for m in episode.messages)
    table = world.environments.fresh().tools.db.open
    assert isinstance(table, CowDict) and table == world.environments.base.tools.db.open
    assert [family(("lockers", f"open_{n}")) for n in (4, 5)] == ["upper", "lower"]


def test_every_trait_has_its_line_in_the_page():
    named = {name for line in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)}
    assert named == {field.name for field in fields(Traits)}


async def test_a_user_of_ones_own_gets_the_shared_client(scratch, helpdesk):
    async with FakeOpenAI(["I want a refund. ###STOP###"]) as fake:
        config = Tau2Config.from_mapping(
            {"user": "hurried:Hurried", "user_base_url": fake.url, "user_model": "m"}, "test"
        )
        box = Harness(config)
        episode = await box.run(
            helpdesk, "refunds_1", ScriptedAgent(script("noop", helpdesk.task("refunds_1"))), seed=1
        )
        await box.close()
    assert episode.messages[1]["content"].startswith("I want a refund")
    said = [m["content"] for m in fake.bodies[0]["messages"] if m["role"] == "system"]
    assert len(said) == 2 and said[1].startswith("You are in a hurry")


def test_a_user_written_for_the_older_name_is_heard_too():
    user = LLMUser(client=None)
    user.messages = []
    user._hears({"role": "system", "content": "a"})
    user.hears({"role": "system", "content": "b"})
    assert [json.loads(message)["content"] for message in user.messages] == ["a", "b"]


def test_a_reward_of_ones_own(scratch):
    config = Tau2Config.from_mapping({"shaping": "brief:brief", "overlong": "penalty"}, "test")
    told = {"turns": 5, "partial": 0.8, "termination": "user_stop"}
    sample = Sample(metadata={"domain": "helpdesk", "tau2": told})
    assert training_reward(config, sample, 1.0) == pytest.approx(0.95)
    assert training_reward(config, sample, 0.0) == pytest.approx(0.2)
    told["termination"] = "length"
    assert training_reward(config, sample, 0.0) == pytest.approx(0.2 - 0.25)


def test_the_data_source_serves_the_new_domain(scratch, tmp_path):
    args = Namespace(
        n_samples_per_prompt=2, save=str(tmp_path), load=None, tau2_plugins=["lockers"], tau2_domains=["lockers"]
    )
    served = {g[0].metadata["task_id"] for g in data_source.Tau2DataSource(args).get_samples(5)}
    assert served == {f"open_{n}" for n in (1, 2, 3, 4, 6)}, "its train tasks without the one in val"


@pytest.mark.parametrize(
    "options, said",
    [
        ({"plugins": ["nowhere_at_all"]}, "tau2_plugins: no module nowhere_at_all"),
        ({"user": "nobody"}, "there are scripted, llm, gold, plain, and module:name"),
        ({"shaping": "gate"}, "there are gated, card, none, and module:name"),
    ],
)
def test_what_is_not_there_is_named(options, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        Tau2Config.from_mapping(options, "test")


def test_a_name_that_a_module_lacks_is_named(helpdesk):
    with pytest.raises(ConfigError, match=r"tau2_user = json:Nobody: .* has no Nobody"):
        Harness(Tau2Config(user="json:Nobody")).user()
