"""banking_knowledge's retrieval kinds, on a stand-in with the shape that tau2 v1.0.x gives the domain (tests/upstream
runs the real one).
"""

import gc
from types import SimpleNamespace

import pytest
from pydantic import Field

from slime_tau2 import bench, traits
from slime_tau2.bench import knowledge
from slime_tau2.config import Tau2Config
from slime_tau2.episode import environments, worlds
from slime_tau2.episode.harness import Harness
from slime_tau2.errors import ConfigError

BANK = "bank_of_knowledge"
BASE = """{"id": "%s", "description": {"purpose": "p"}, "user_scenario": {"instructions": "i"},
  "evaluation_criteria": {"actions": [{"action_id": "a", "name": "read", "arguments": {"name": "%s"}}], "reward_basis": ["DB"]}}"""


class Account(bench.DB):
    reads: list[str] = Field(default_factory=list)


class RetrievalPipeline:
    documents = ("one", "two")


class SandboxManager:
    def __init__(self, allow_writes):
        self.allow_writes, self.removed = allow_writes, []

    def cleanup(self):
        self.removed.append(True)


class BankTools(bench.ToolKitBase):
    def __init__(self, db, pipeline, sandbox):
        super().__init__(db)
        self._kb_pipeline, self._sandbox, self.allowed = pipeline, sandbox, set()

    def set_read_log_allowlist(self, allowlist):
        self.allowed = set(allowlist or [])

    @bench.is_tool(bench.ToolType.READ)
    def read(self, name: str) -> str:
        """Read something, which is remembered where the task wants it read."""
        if name in self.allowed:
            self.db.reads.append(name)
        return "read"

    @bench.is_tool(bench.ToolType.GENERIC)
    def transfer_to_human_agents(self, summary: str) -> str:
        """Transfer the user to a person."""
        return "Transfer successful"


class OwnerTools(bench.ToolKitBase):
    """The user's tools, on the agent's database."""


def search(kind, embedder=None, reranker=False):
    return SimpleNamespace(type=kind, embedder_type=embedder, reranker=reranker)


def variant(kb=None, bm25=None, dense=None, shell=None):
    return SimpleNamespace(kb_search=kb, kb_search_bm25=bm25, kb_search_dense=dense, shell=shell)


KINDS = {
    "golden_retrieval": variant(),
    "bm25": variant(search("bm25")),
    "no_package": variant(search("bm25")),
    "refused": variant(),
    "bm25_reranker": variant(search("bm25", reranker=True)),
    "qwen_reranker": variant(search("embedding", "openrouter", reranker=True)),
    "alltools": variant(bm25=search("bm25"), dense=search("embedding", "openai"), shell=SimpleNamespace()),
    "terminal_use": variant(shell=SimpleNamespace()),
    "terminal_use_write": variant(shell=SimpleNamespace()),
}


def constructor(db=None, retrieval_variant="alltools", task=None, read_log_allowlist=None, solo_mode=False):
    if retrieval_variant == "no_package":
        raise ModuleNotFoundError("No module named 'rank_bm25'", name="rank_bm25")
    if retrieval_variant == "refused":
        raise RuntimeError("401\nthe key is wrong")
    db = db or Account()
    sandbox = (
        SandboxManager(retrieval_variant == "terminal_use_write") if retrieval_variant.startswith("terminal") else None
    )
    tools = BankTools(db, RetrievalPipeline(), sandbox)
    tools.set_read_log_allowlist(read_log_allowlist)
    policy = f"documents of {task.id}" if retrieval_variant == "golden_retrieval" and task else "policy"
    return bench.Environment(domain_name=BANK, policy=policy, tools=tools, user_tools=OwnerTools(db))


def get_tasks(task_split_name=None):
    return [bench.Task.model_validate_json(BASE % (f"task_{n}", name)) for n, name in enumerate(("balance", "history"))]


def sandbox_dependencies():
    raise RuntimeError("Cannot use the shell: srt, rg are not installed.\n\nInstall with:\n  npm install srt")


@pytest.fixture
def bank(monkeypatch):
    def build_env_kwargs(request, task):
        assert request.domain == BANK and request.retrieval_config_kwargs is None
        wanted = {a.arguments["name"] for a in task.evaluation_criteria.actions}
        return {"retrieval_variant": request.retrieval_config, "task": task, "read_log_allowlist": wanted}

    modules = {
        "runner.build": SimpleNamespace(_build_env_kwargs=build_env_kwargs),
        "domains.banking_knowledge.retrieval": SimpleNamespace(RETRIEVAL_VARIANTS=KINDS),
        "knowledge.sandbox_manager": SimpleNamespace(_check_sandbox_dependencies=sandbox_dependencies),
    }
    for module in (bench, knowledge):
        monkeypatch.setattr(module, "KNOWLEDGE", BANK)
    monkeypatch.setattr(knowledge, "load", modules.__getitem__)
    for key in ("OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    every = [t.id for t in get_tasks()]
    bench.register_domain(BANK, constructor, get_tasks, lambda: {"base": every}, traits=traits.of("banking_knowledge"))
    knowledge._kinds.cache_clear()
    yield modules
    knowledge._kinds.cache_clear()
    worlds._load.cache_clear()
    environments.shared.cache_clear()


@pytest.mark.parametrize(
    "kind, why",
    [
        (
            "bm25_reranker",
            "bm25_reranker needs OPENAI_API_KEY in the environment: set it; or choose a kind that needs no key",
        ),
        ("qwen_reranker", "needs OPENAI_API_KEY and OPENROUTER_API_KEY in the environment"),
        ("alltools", "needs OPENAI_API_KEY in the environment"),
        ("no_package", "needs the package rank_bm25, which is not installed: pip install rank-bm25"),
        (
            "terminal_use",
            "terminal_use: Cannot use the shell: srt, rg are not installed. Install with: npm install srt; or choose",
        ),
        ("refused", "refused cannot be built: 401 the key is wrong; or choose"),
        ("bm52", "retrieval .bm52.: .* has golden_retrieval, bm25, "),
    ],
)
def test_a_kind_that_cannot_run_is_one_line_with_its_fix_before_the_first_conversation(bank, cli, tmp_path, kind, why):
    with pytest.raises(ConfigError, match=why) as told:
        worlds.load(BANK, retrieval=kind)
    assert "\n" not in str(told.value)
    code, _, error = cli("eval", "--domain", BANK, "--set", f"retrieval={kind}", "--output", tmp_path / "o")
    assert code == 2 and "Traceback" not in error and not (tmp_path / "o").exists()
    assert "golden_retrieval, bm25" in error, "which kinds need no key"


def test_with_the_key_the_kind_is_built(bank, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert worlds.load(BANK, retrieval="bm25_reranker").retrieval == "bm25_reranker"


def test_episodes_share_the_index_and_nothing_else(bank):
    world = worlds.load(BANK, retrieval="bm25")
    balance, history = (world.environments.fresh(world.task(t)) for t in ("task_0", "task_1"))
    assert balance.tools._kb_pipeline is history.tools._kb_pipeline is world.environments.base.tools._kb_pipeline
    assert balance.tools.allowed == {"balance"} and history.tools.allowed == {"history"}
    balance.tools.read("balance")
    balance.tools.read("history")
    assert balance.tools.db.reads == balance.user_tools.db.reads == ["balance"] and history.tools.db.reads == []
    world.environments.check()
    assert world.environments.fresh().tools.allowed == set()


def test_a_sandbox_that_an_episode_may_write_to_is_its_own(bank, monkeypatch):
    bank["knowledge.sandbox_manager"]._check_sandbox_dependencies = lambda: None
    for kind, own in (("terminal_use", False), ("terminal_use_write", True)):
        world = worlds.load(BANK, retrieval=kind)
        one, two = (world.environments.fresh(world.task("task_0")).tools for _ in range(2))
        assert (one._sandbox is not two._sandbox) is own and one.allowed == two.allowed == {"balance"}
        removed = one._sandbox.removed
        gc.collect()
        assert removed == ([True] if own else []), "with its environment: the tools alone are not that"


def test_golden_retrieval_has_a_policy_for_each_task_and_none_for_all(bank):
    world, box = worlds.load(BANK, retrieval="golden_retrieval"), Harness(Tau2Config(retrieval="golden_retrieval"))
    assert [world.policy_for(t) for t in ("task_0", "task_1")] == ["documents of task_0", "documents of task_1"]
    prompts = [box.system_prompt(world, t) for t in ("task_0", "task_1", "task_0")]
    assert "documents of task_0" in prompts[0] == prompts[2] and "documents of task_1" in prompts[1]
    with pytest.raises(
        ConfigError, match=f"with retrieval golden_retrieval, {BANK} has a policy for each task and none for all"
    ):
        box.system_prompt(world)
    plain = worlds.load(BANK, retrieval="bm25")
    assert plain.policy_for(None) == plain.policy_for("task_1") == "policy"


def test_the_kind_is_in_the_record_and_the_default_split_is_the_one_there_is(bank, cli, tmp_path):
    code, out, error = cli("eval", "--domain", BANK, "--policy", "gold", "--output", tmp_path / "o")
    assert code == 0, error
    assert f"{BANK} has no split test: this is base" in out and "2 of 2 attempts scored; 2 earned reward 1.0" in out
    settings = (tmp_path / "o" / "plan.json").read_text()
    assert '"retrieval": "bm25"' in settings and '"split": "base"' in settings
    code, _, error = cli("eval", "--domain", BANK, "--set", "retrieval=golden_retrieval", "--output", tmp_path / "o")
    assert code == 2 and f"retrieval of {BANK} = 'bm25', not 'golden_retrieval'" in error
    code, _, error = cli("eval", "--domain", BANK, "--split", "test", "--output", tmp_path / "p")
    assert code == 2 and f"unknown split 'test' of {BANK}; it has: base: use --split base" in error
    code, out, _ = cli("eval", "--domain", BANK, "--dry-run", "--output", tmp_path / "p")
    assert code == 0 and "retrieval: bm25" in out


def test_no_other_domain_has_a_retrieval_kind(bank):
    mock = worlds.load("mock")
    assert worlds.load("mock", retrieval="bm25") is worlds.load("mock", retrieval="alltools") is mock
    assert mock.retrieval == "" and bench.environment_options(mock.spec, None) == {}
