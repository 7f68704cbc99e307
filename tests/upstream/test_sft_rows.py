"""SFT rows in slime: its own mask generator against our sequences, and our rollout up to its train data. Needs slime's
source tree on PYTHONPATH.
"""

import json

import pytest
from slime_harness import fresh, make_args, manager, needs_slime
from thinking_models import tokenizer_of

from slime_tau2.data import teacher_traces, traces
from slime_tau2.episode.chat import ChatRenderer

pytestmark = [pytest.mark.upstream, needs_slime]
FAMILIES = {"keeps history": None, "qwen3": "qwen3", "qwen3 off": "qwen3 off", "qwen3 2507": "qwen3 2507"}


@pytest.fixture(scope="module")
def rows():
    """24 conversations in which each turn has a thought; 13 of them have a second word of the user's."""
    found, _ = teacher_traces.collect(24, flaws=1.0, seed=1, split="train", advance=lambda done, note: None)
    for row in found:
        for number, message in enumerate(row["messages"]):
            if message.get("step_loss_mask"):
                message["reasoning_content"] = f"Turn {number}."
    return found


@pytest.fixture(params=FAMILIES)
def family(request, qwen_tokenizer):
    """(name, tokenizer, the option `thinking`)"""
    plain = FAMILIES[request.param] is None
    made = (qwen_tokenizer, "auto") if plain else tokenizer_of(qwen_tokenizer, FAMILIES[request.param])
    return (request.param, *made)


def differences(tokenizer, thinking, kind, row):
    """(sequences that the row is; whether slime's ids are those of the last and a line's end; the texts that only slime
    trains in it; those that only we do).
    """
    from slime.utils.mask_utils import MultiTurnLossMaskGenerator

    ours = traces.tokenise(row, ChatRenderer(tokenizer, json.loads(row["tools"]), thinking))
    generator = MultiTurnLossMaskGenerator(tokenizer, tokenizer_type=kind)
    ids, mask = generator.get_loss_mask(row["messages"], tools=json.loads(row["tools"]))
    end = tokenizer.encode("\n", add_special_tokens=False)
    if ids != ours[-1].tokens + end:
        return len(ours), False, "", ""
    own = [0] * (len(ids) - len(end) - len(ours[-1].loss_mask)) + ours[-1].loss_mask + [0] * len(end)
    more, less = (
        "".join(tokenizer.decode([i]) for i, a, b in zip(ids, mask, own) if (a, b) == pair) for pair in ((1, 0), (0, 1))
    )
    return len(ours), True, more, less


@pytest.mark.parametrize("kind", ["qwen3", "qwen3_5"])
def test_where_slimes_generator_is_ours(family, rows, kind):
    """The table of docs/training.md."""
    name, tokenizer, thinking = family
    found = [differences(tokenizer, thinking, kind, row) for row in rows]
    same = [one for one in found if one[1]]
    if name == "keeps history":
        assert len(same) == 24 and all(one[0] == 1 and one[2].strip("\n") == "" == one[3] for one in same)
    elif kind == "qwen3" or name == "qwen3 off":
        assert not same, (
            "a greeting or an earlier turn gets an empty thought, thoughts stay, or the switch is not asked"
        )
    else:
        assert len(same) == 24, "one rendering of the whole conversation: our last sequence"
        single = [one for one in same if one[0] == 1]
        assert len(single) == 11 and all(one[2].strip("\n") == "" for one in single)
        begun = {"qwen3": "<think>\n", "qwen3 2507": ""}[name]
        assert all(one[3].replace(begun, "") == "" for one in single), "the mark that begins a thought does not train"
        several = [one for one in same if one[0] > 1]
        assert all(one[2].strip("\n") for one in several), "turns train again without the thoughts that led to them"


def test_rows_become_slimes_train_data(family, rows, tmp_path):
    """From the file over slime's data source and our rollout to its conversion: each sequence, once."""
    name, tokenizer, thinking = family
    tokenizer.save_pretrained(tmp_path / "model")
    assert traces.write_jsonl(tmp_path / "rows.jsonl", rows) == 24
    args = make_args(
        tmp_path,
        0,
        hf_checkpoint=str(tmp_path / "model"),
        rollout_function_path="slime_tau2.hooks.sft.generate_rollout",
        data_source_path="slime.rollout.data_source.RolloutDataSourceWithBuffer",
        prompt_data=str(tmp_path / "rows.jsonl"),
        input_key="messages",
        tool_key="tools",
        n_samples_per_prompt=1,
        rollout_batch_size=8,
        global_batch_size=8,
        grpo_std_normalization=False,
        tau2_thinking=thinking,
    )
    made = manager(args, fresh(args))
    made.custom_reward_post_process_func = None  # as launch/sft.sh has it
    chat = ChatRenderer(tokenizer, json.loads(rows[0]["tools"]), thinking)
    wanted = sorted((one.tokens, one.loss_mask) for row in rows for one in traces.tokenise(row, chat))
    found, ids = [], set()
    for step in range(3):
        samples, _ = made._get_rollout_data(rollout_id=step)
        data = made._convert_samples_to_train_data(samples)
        found += zip(data["tokens"], data["loss_masks"])
        assert len(set(data["rollout_ids"])) == 8 and not ids & set(data["rollout_ids"])
        ids |= set(data["rollout_ids"])
        assert data["response_lengths"] == [len(mask) for mask in data["loss_masks"]]
    assert sorted((list(t), list(m)) for t, m in found) == wanted
    assert (len(wanted) == 24) == (name == "keeps history")
