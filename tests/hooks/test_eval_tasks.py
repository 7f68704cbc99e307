"""What a training may not look at, at its start and at each evaluation sample; slime's own arguments are stood in for."""

import json
from argparse import Namespace

import pytest

from slime_tau2.config import Tau2Config
from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.errors import ConfigError
from slime_tau2.hooks import current, generate
from slime_tau2.hooks.compat import GenerateState, Sample
from slime_tau2.hooks.data_source import Tau2DataSource


@pytest.fixture(autouse=True)
def no_data_source(monkeypatch):
    monkeypatch.setattr(current, "_source", None)


def args_with(tmp_path, tasks, domain="helpdesk", path=None, **over):
    """Arguments whose evaluation reads `tasks`, as slime makes them of --eval-config."""
    file = tmp_path / "eval.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": t, "meta": {"domain": domain, "task_id": t}}) + "\n" for t in tasks) + "\n"
    )
    dataset = Namespace(name="held", path=path or str(file), metadata_key="meta")
    return Namespace(n_samples_per_prompt=2, tau2_user="scripted", eval_datasets=[dataset], **over)


def test_evaluation_on_val_is_what_it_is_for(tmp_path, helpdesk):
    assert len(Tau2DataSource(args_with(tmp_path, helpdesk.task_ids("val")))) == 600


def test_evaluation_data_with_a_test_task_or_a_trained_one_end_the_run_at_its_start(tmp_path, helpdesk):
    val = helpdesk.task_ids("val")[:2]
    with pytest.raises(
        ConfigError,
        match=r"evaluation data held \(.*eval.jsonl\): helpdesk/orders_250 is a test task, .*tau2_i_know: true",
    ):
        Tau2DataSource(args_with(tmp_path, [*val, "orders_250"]))
    with pytest.raises(ConfigError, match=r"helpdesk/orders_3 is trained on \(tau2_split = train\); evaluate on val"):
        Tau2DataSource(args_with(tmp_path, [*val, "orders_3"]))
    with pytest.raises(ConfigError, match=rf"helpdesk/{val[0]} is trained on \(tau2_split = train\+val\)"):
        Tau2DataSource(args_with(tmp_path, val, tau2_split="train+val"))
    with pytest.raises(ConfigError, match=r"airline/[0-9]+ is a test task"):  # of a domain that is not even trained on
        Tau2DataSource(args_with(tmp_path, ["2", "1"] + [str(n) for n in range(3, 50)], "airline"))
    assert Tau2DataSource(args_with(tmp_path, [*val, "orders_250", "orders_3"], tau2_i_know=True))


@pytest.mark.parametrize(
    ("data", "said"), [(b'{"meta": "\xff"}', "not UTF-8"), (b"{", "not JSON"), (b"[" * 100_000, "not JSON")]
)
def test_evaluation_data_that_cannot_be_read_is_one_line_with_the_place(tmp_path, data, said):
    args = args_with(tmp_path, [])
    (tmp_path / "eval.jsonl").write_bytes(b"\n" + data)
    with pytest.raises(ConfigError, match=rf"eval.jsonl, line 2: {said}"):
        Tau2DataSource(args)


def test_a_training_on_test_tasks_is_refused(tmp_path):
    with pytest.raises(
        ConfigError,
        match="tau2_split = base: 150 of its 900 tasks are test tasks, the first helpdesk/orders_250; train on",
    ):
        Tau2DataSource(args_with(tmp_path, [], tau2_split="base"))
    assert len(Tau2DataSource(args_with(tmp_path, [], tau2_split="base", tau2_i_know=True))) == 900
    assert len(Tau2DataSource(args_with(tmp_path, [], tau2_split="base", tau2_domains=["mock"]))) > 0, (
        "it has no test split"
    )


@pytest.mark.parametrize("path", ["rows.parquet", "{file}@[0:1]", "absent.jsonl"])
def test_what_is_no_plain_file_is_left_to_the_samples(tmp_path, path):
    assert Tau2DataSource(args_with(tmp_path, ["orders_250"], path=path.format(file=tmp_path / "eval.jsonl")))


def asking(args):
    """`generate` for a task; no server listens."""
    for name, value in {
        "hf_checkpoint": str(TOKENIZER),
        "sglang_router_ip": "127.0.0.1",
        "sglang_router_port": 9,
        "sglang_server_concurrency": 1,
        "rollout_temperature": 1.0,
        "rollout_top_p": 1.0,
        "rollout_top_k": -1,
        "rollout_max_response_len": 64,
        "tau2_policy_retries": 0,
        "tau2_episode_retries": 0,
    }.items():
        setattr(args, name, value)

    async def ask(task_id, evaluation):
        sample = Sample(group_index=0, index=0, prompt="p", metadata={"domain": "helpdesk", "task_id": task_id})
        return await generate.generate(args, sample, GenerateState(args).sampling_params, evaluation=evaluation)

    return ask


async def test_each_evaluation_sample_is_checked_whatever_the_data_source(tmp_path, helpdesk):
    args = args_with(tmp_path, [], n=1)
    ask, val = asking(args), helpdesk.task_ids("val")[0]
    with pytest.raises(ConfigError, match="evaluation during training: helpdesk/orders_250 is a test task"):
        await ask("orders_250", True)
    for task_id, evaluation in (
        (val, True),
        ("orders_250", False),
        ("orders_3", True),
    ):  # no data source of ours: nobody knows what trains
        assert (await ask(task_id, evaluation)).metadata["tau2"]["termination"] == "policy_failure"
    Tau2DataSource(args)
    with pytest.raises(ConfigError, match="helpdesk/orders_3 is trained on"):
        await ask("orders_3", True)
    assert (await ask(val, True)).metadata["tau2"]["termination"] == "policy_failure"
    await generate.harness(args).close()


async def test_who_says_so_may(tmp_path):
    args = args_with(tmp_path, [], n=2, tau2_i_know=True)
    assert (await asking(args)("orders_250", True)).metadata["tau2"]["termination"] == "policy_failure"
    await generate.harness(args).close()


def test_it_is_off_by_default():
    assert not Tau2Config().i_know


def test_a_line_of_the_evaluation_data_that_is_not_json_is_named(tmp_path):
    args = args_with(tmp_path, ["orders_250"])
    (tmp_path / "eval.jsonl").write_text('{"prompt": "a", "meta": {}}\n{"prompt":\n')
    with pytest.raises(ConfigError, match=r"eval.jsonl, line 2: not JSON"):
        Tau2DataSource(args)
