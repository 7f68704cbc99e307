"""What the hooks dump of a rollout: played by hand in slime's order of calls, and compared with what trains."""

import copy
import logging
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from test_data_source import source_args

from slime_tau2.domains.helpdesk import TOKENIZER
from slime_tau2.dumps.arrays import unpack_floats, unpack_ids
from slime_tau2.dumps.store import Dump
from slime_tau2.hooks import advantages, filters, generate, rewards, rollout_dump, trainer_dump
from slime_tau2.hooks import metrics as log_hooks
from slime_tau2.hooks.compat import Sample
from slime_tau2.hooks.data_source import Tau2DataSource
from slime_tau2.hooks.group_story import Story, story
from slime_tau2.hooks.rollout_rows import KEPT_AFTER_ALL, reason
from slime_tau2.rollouts.reader import Reader
from slime_tau2.terminations import Termination

sys.path.insert(0, str(Path(__file__).parents[1] / "upstream" / "train_cpu"))
from parity import held

MASK = [1, 1, 0, 0, 1, 1, 1, 0]


@pytest.fixture(autouse=True)
def nothing_was_told():
    story.begin()


def dump_args(tmp_path, **over):
    return source_args(
        tmp_path,
        **{
            "hf_checkpoint": str(TOKENIZER),
            "sglang_server_concurrency": 4,
            "rollout_temperature": 1.0,
            "rollout_top_p": 1.0,
            "rollout_top_k": -1,
            "rollout_max_response_len": 64,
        }
        | over,
    )


def finish(group, *earned, partials=None):
    """Each sample's tokens begin with its index, so that no two are alike."""
    for n, (s, reward) in enumerate(zip(group, earned)):
        s.status, s.reward = Sample.Status.COMPLETED, float(reward)
        s.tokens = [40, 41, 42, *(100 + (s.index + k) % 50 for k in range(len(MASK)))]
        s.response_length, s.loss_mask = len(MASK), list(MASK)
        s.rollout_log_probs = [-(k + 1) / 8 * m for k, m in enumerate(MASK)]
        s.weight_versions = ["3", "3", "4"]
        s.metadata["tau2"] = {
            "termination": "user_stop",
            "partial": partials[n] if partials else float(reward),
            "components": {"writes": float(reward)},
            "turns": 2,
            "calls": 1,
            "turn_gains": [0.5, -0.25],
            "turn_calls": [[{"start": 0, "end": 1, "gain": 0.5, "wrong": ""}], []],
        }
    return group


def dumped(tmp_path, rollout=0):
    return Dump(tmp_path / "tau2_rollouts").rollout(rollout)


def played(tmp_path, **over):
    """A rollout of six groups: two teach, one was solved and dropped, one spoiled, one cut off, one more than fits."""
    args = dump_args(tmp_path, rollout_batch_size=2, **over)
    source = Tau2DataSource(args)
    taught, solved, spoiled, cut, surplus, second = source.get_samples(6)
    for s in spoiled:
        generate.placeholder(s, "connection refused", Termination.USER_FAILURE)
    for s in cut:
        s.status = Sample.Status.ABORTED
    finish(taught, 1, 0), finish(solved, 1, 1), finish(surplus, 1, 0), finish(second, 0, 0, partials=[0.0, 0.8])
    for group in (taught, solved, spoiled, surplus, second):
        filters.dynamic_sampling_filter(args, group)
    filters.rollout_sample_filter(args, [taught, second])
    filters.process_all_samples(args, [taught, solved, spoiled, surplus, second], source.get_samples)
    flat = [*taught, *second]
    assert log_hooks.log_rollout(0, args, flat, None, 2.0) is False
    _, gains = rewards.reward_post_process(args, flat)
    return args, source, flat, gains


def test_every_group_has_its_reason_its_verdict_and_its_end(tmp_path):
    played(tmp_path)
    told = [(g["verdict"], g["fate"], g["why"], len(g["samples"])) for g in dumped(tmp_path)["groups"]]
    assert told == [
        ("kept", "trained", "", 2),
        ("all_1.0", "dropped", "", 2),
        ("infrastructure", "returned", "infrastructure spoiled it", 2),
        ("", "returned", "the end of the rollout cut it off", 0),
        ("kept", "returned", "the batch was full", 2),
        ("kept", "trained", "", 2),
    ]
    served = [g["served"] for g in dumped(tmp_path)["groups"]]
    assert served == [{"by": "order", "epoch": 0, "place": n} for n in range(6)]
    assert reason(served[3]) == "order: pass 0, place 3"
    rows = dumped(tmp_path)["groups"]
    assert [s["why_not"] for s in rows[2]["samples"]] == ["user_failure"] * 2
    assert rows[2]["samples"][0]["detail"] == "connection refused" and rows[2]["samples"][0]["log_prob"] is None


def test_a_group_that_came_back_says_why_it_is_served_again(tmp_path):
    args, source, *_ = played(tmp_path)
    again = source.get_samples(3)
    for group in again:
        filters.dynamic_sampling_filter(args, finish(group, 1, 0))
    log_hooks.log_rollout(1, args, [s for g in again for s in g], None, 1.0)
    assert [reason(g["served"]) for g in dumped(tmp_path, 1)["groups"]] == [
        "returned: infrastructure spoiled it",
        "returned: the end of the rollout cut it off",
        "returned: the batch was full",
    ]


def test_a_resumed_run_says_so(tmp_path):
    played(tmp_path)
    args = dump_args(tmp_path)
    source = Tau2DataSource(args)
    source.load(0)
    (group,) = source.get_samples(1)
    log_hooks.log_rollout(1, args, finish(group, 1, 0), None, 1.0)
    assert reason(dumped(tmp_path, 1)["groups"][0]["served"]) == "returned: the run was resumed"


def test_the_curriculum_says_what_it_knew(tmp_path):
    args = dump_args(tmp_path, tau2_curriculum=True)
    source = Tau2DataSource(args)
    (group,) = source.get_samples(1)
    name = f"{group[0].metadata['domain']}/{group[0].metadata['task_id']}"
    log_hooks.log_rollout(0, args, finish(group, 1, 0), None, 1.0)
    served = dumped(tmp_path)["groups"][0]["served"]
    assert served == {"by": "curriculum", "pool": "unseen", "rate": 0.5, "weight": 0.25}
    assert source.order.reasons[name]["pool"] == "unseen", "and not what it knew afterwards"


def test_shares_of_domains_say_so(tmp_path):
    args = dump_args(tmp_path, tau2_domain_weights={"helpdesk": 1.0})
    (group,) = Tau2DataSource(args).get_samples(1)
    log_hooks.log_rollout(0, args, finish(group, 1, 0), None, 1.0)
    assert reason(dumped(tmp_path)["groups"][0]["served"]) == "shares: pass 0, place 0"


def test_a_group_that_was_kept_after_all_says_so(tmp_path):
    args = dump_args(tmp_path)
    (group,) = Tau2DataSource(args).get_samples(1)
    filters.dynamic_sampling_filter(args, finish(group, 0, 0))
    log_hooks.log_rollout(0, args, group, None, 1.0)
    (row,) = dumped(tmp_path)["groups"]
    assert (row["verdict"], row["fate"], row["why"]) == ("all_0.0", "trained", KEPT_AFTER_ALL)


@pytest.mark.parametrize("credit", ["episode", "turn", "call"])
def test_tokens_and_advantages_are_those_that_train(tmp_path, credit, tokenizer):
    _, _, flat, gains = played(tmp_path, tau2_credit=credit, custom_advantage_function_path=advantages.PATH)
    part = dumped(tmp_path)
    rows = {s["sample"]: s for g in part["groups"] if g["fate"] == "trained" for s in g["samples"]}
    assert [rows[s.index]["advantage"] for s in flat] == gains
    assert rows[flat[3].index]["training_reward"] == pytest.approx(0.2), "0.25 of a partial of 0.8"
    assert len(part["samples"]) == 4 and part["options"]["credit"] == credit
    for s, gain, told in zip(flat, gains, part["samples"], strict=True):
        assert told["sample"] == s.index
        assert unpack_ids(part["prompts"][told["prompt"]]) + unpack_ids(told["ids"]) == s.tokens
        assert told["trained"] == [[0, 2], [4, 7]]
        assert unpack_floats(told["log_probs"]) == [p for p, m in zip(s.rollout_log_probs, MASK) if m]
        carried = getattr(s, advantages.FIELD) or [gain] * len(MASK)
        assert unpack_floats(told["advantages"]) == pytest.approx([a for a, m in zip(carried, MASK) if m])
        assert [t["gain"] for t in told["turns"]] == [0.5, -0.25] and told["turns"][0]["calls"][0]["end"] == 1
        assert rows[s.index]["weights"] == ["3", "4"]
    assert len(part["prompts"]) == 1 and part["pieces"]["40"] == tokenizer.decode([40])
    assert {str(t) for s in flat for t in s.tokens} == part["pieces"].keys()


def test_what_another_hook_decides_is_not_told(tmp_path):
    args = dump_args(tmp_path, custom_reward_post_process_path=None)
    (group,) = Tau2DataSource(args).get_samples(1)
    log_hooks.log_rollout(0, args, finish(group, 1, 0), None, 1.0)
    part = dumped(tmp_path)
    assert part["groups"][0]["samples"][0]["advantage"] is None and part["samples"][0]["advantages"] is None


def test_a_masked_sample_has_no_advantage(tmp_path):
    args = dump_args(tmp_path, tau2_overlong="mask", n_samples_per_prompt=3)
    (group,) = Tau2DataSource(args).get_samples(1)
    finish(group, 1, 0, 0)[2].metadata["tau2"]["termination"] = "max_steps"
    filters.rollout_sample_filter(args, [group])
    log_hooks.log_rollout(0, args, group, None, 1.0)
    part = dumped(tmp_path)
    row = part["groups"][0]["samples"][2]
    assert (row["trains"], row["why_not"], row["advantage"]) == (False, "overlong", None)
    assert part["samples"][2]["advantages"] is None and part["samples"][1]["advantages"] is not None


def test_the_dump_is_bounded(tmp_path, monkeypatch):
    args = dump_args(tmp_path, tau2_dump=3)
    groups = Tau2DataSource(args).get_samples(9)
    flat = [s for g in groups for s in finish(g, 1, 0)]
    log_hooks.log_rollout(0, args, flat, None, 1.0)
    part = dumped(tmp_path)
    assert [s["sample"] // 2 for s in part["samples"][::2]] == [0, 3, 6] and part["left_out"] == 0
    one = 4 * (3 + 2 * (len(MASK) + 2 * sum(MASK)))
    monkeypatch.setattr(rollout_dump, "MAX_BYTES", 2 * one)
    log_hooks.log_rollout(1, args, flat, None, 1.0)
    assert len(dumped(tmp_path, 1)["samples"]) == 4 and dumped(tmp_path, 1)["left_out"] == 1
    off = dump_args(tmp_path / "off", tau2_dump=0)
    log_hooks.log_rollout(0, off, flat, None, 1.0)
    assert not (tmp_path / "off").exists()


def test_without_a_place_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = dump_args(tmp_path, save=None)
    log_hooks.log_rollout(
        0, args, finish([Sample(index=0, group_index=0, metadata={"domain": "d", "task_id": "t"})], 1), None, 1.0
    )
    assert not list(tmp_path.rglob("*.gz"))
    args.dump_details = str(tmp_path / "details")
    log_hooks.log_rollout(
        0, args, finish([Sample(index=0, group_index=0, metadata={"domain": "d", "task_id": "t"})], 1), None, 1.0
    )
    assert dumped(tmp_path / "details")["groups"][0]["served"] == {"by": ""}, "no data source of ours served it"


def test_a_full_disk_stops_no_rollout(tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    args = dump_args(tmp_path)
    (group,) = Tau2DataSource(args).get_samples(1)
    monkeypatch.setattr(Dump, "write_rollout", full)
    assert log_hooks.log_rollout(0, args, finish(group, 1, 0), None, 1.0) is False
    assert "No space left" in caplog.text


def trained_on(samples, **columns):
    """What slime hands to the hook in a trainer."""
    return {
        "sample_indices": [s.index for s in samples],
        "tokens": [torch.tensor(s.tokens) for s in samples],
        **columns,
    }


def test_a_trainer_adds_its_log_probs_of_the_same_tokens(tmp_path):
    args, _, flat, _ = played(tmp_path)
    own = [torch.tensor(s.rollout_log_probs) - 0.125 for s in flat]
    gains = [torch.full((len(MASK),), 0.5) for _ in flat]
    before = trained_on(flat[1:3], log_probs=own[1:3], advantages=gains[1:3])
    assert trainer_dump.keep_log_probs(args, 0, before) is None
    (said,) = Dump(tmp_path / "tau2_rollouts").trainers(0)
    part = {s["sample"]: s for s in dumped(tmp_path)["samples"]}
    assert [s["sample"] for s in said["samples"]] == [flat[1].index, flat[2].index]
    for s in said["samples"]:
        assert s["crc"] == part[s["sample"]]["crc"]
        mine = [p - 0.125 for p in unpack_floats(part[s["sample"]]["log_probs"])]
        assert unpack_floats(s["log_probs"]) == mine and unpack_floats(s["advantages"]) == [0.5] * 5


def test_a_trainer_without_log_probs_says_what_it_has(tmp_path):
    args, _, flat, _ = played(tmp_path)
    trainer_dump.keep_log_probs(args, 0, trained_on(flat))
    (said,) = Dump(tmp_path / "tau2_rollouts").trainers(0)
    assert {(s["at"], s["log_probs"], s["advantages"]) for s in said["samples"]} == {(None, None, None)}


def test_context_parallel_ranks_say_which_tokens_they_have(tmp_path, monkeypatch):
    args, _, flat, _ = played(tmp_path)
    seen = {s.index: {} for s in flat}
    for rank in range(2):
        monkeypatch.setattr(trainer_dump, "_rank", lambda rank=rank: rank)
        monkeypatch.setattr(
            trainer_dump, "held_places", lambda total, response, rank=rank: held(total, response, rank, 2)
        )
        own = [torch.tensor(s.rollout_log_probs)[held(len(s.tokens), len(MASK), rank, 2)] for s in flat]
        trainer_dump.keep_log_probs(args, 0, trained_on(flat, log_probs=own))
    for said in Dump(tmp_path / "tau2_rollouts").trainers(0):
        for s in said["samples"]:
            seen[s["sample"]] |= dict(zip(unpack_ids(s["at"]), unpack_floats(s["log_probs"]), strict=True))
    for s in flat:
        assert [seen[s.index][n] for n in range(5)] == [p for p, m in zip(s.rollout_log_probs, MASK) if m]


def test_of_tensor_parallel_ranks_one_writes(tmp_path, monkeypatch):
    args, _, flat, _ = played(tmp_path, tensor_model_parallel_size=2)
    for rank in range(4):
        monkeypatch.setattr(trainer_dump, "_rank", lambda rank=rank: rank)
        trainer_dump.keep_log_probs(args, 0, trained_on(flat))
    assert len(Dump(tmp_path / "tau2_rollouts").trainers(0)) == 2


@pytest.mark.parametrize("over", [{"tau2_dump": 0}, {"save": "elsewhere"}, {"save": None}])
def test_a_trainer_writes_only_where_there_is_a_dump(tmp_path, over, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args, _, flat, _ = played(tmp_path)
    here = Namespace(**{**vars(args), **over})
    with caplog.at_level(logging.ERROR):
        trainer_dump.keep_log_probs(here, 0, trained_on(flat, log_probs=[torch.zeros(8)] * 4))
        trainer_dump.keep_log_probs(here, 0, {})
    assert not list(tmp_path.rglob("trainer-*"))
    assert ("not written" in caplog.text) == (over.get("save") == "elsewhere")


def test_the_samples_of_one_episode_are_told_apart(tmp_path):
    """An episode may train as several samples of one index."""
    args = dump_args(tmp_path)
    (group,) = Tau2DataSource(args).get_samples(1)
    finish(group, 1, 0)
    again = copy.copy(group[0])
    again.tokens, again.rollout_log_probs = [*group[0].tokens[:-1], 7], [p - 1 for p in group[0].rollout_log_probs]
    flat = [group[0], again, group[1]]
    log_hooks.log_rollout(0, args, flat, None, 1.0)
    own = [torch.tensor(s.rollout_log_probs) - 0.125 for s in flat]
    trainer_dump.keep_log_probs(args, 0, trained_on(flat, log_probs=own))
    reader = Reader(Dump(tmp_path / "tau2_rollouts"))
    reader.refresh()
    index = reader.index()
    rows = [dict(zip(index["sample_fields"], row)) for row in index["samples"]]
    assert [(r["sample"], r["segment"], r["tokens"]) for r in rows] == [(0, 0, 1), (0, 1, 1), (1, 0, 1)]
    assert rows[1]["log_prob"] == pytest.approx(rows[0]["log_prob"] - 1)
    assert all(r["apart"] == pytest.approx(0.125) for r in rows)
    told = reader.tokens(0)["samples"]
    for key, s in zip(("0.0", "0.1", "1.0"), flat, strict=True):
        assert unpack_ids(told[key]["ids"])[-1] == s.tokens[-1]


def test_a_story_that_nobody_takes_is_bounded(monkeypatch):
    from slime_tau2.hooks import group_story

    monkeypatch.setattr(group_story, "MOST", 5)
    told = Story()
    for n in range(9):
        group = [Sample(group_index=n, index=n, metadata={"domain": "d", "task_id": str(n)})]
        told.served([(group, {"by": "order"})])
        told.became(group, "trained")
    settled, out = told.take()
    assert list(settled) == [4, 5, 6, 7, 8] and out == 0
