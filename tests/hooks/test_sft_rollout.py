"""slime's rollout of SFT, ours: rows in, samples of their sequences out."""

import json
from argparse import Namespace

import pytest
from thinking_models import tokenizer_of

from slime_tau2.data import teacher_traces, traces
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.errors import ConfigError
from slime_tau2.hooks import sft
from slime_tau2.hooks.compat import Sample


class Source:
    def __init__(self, rows):
        self.rows = rows

    def get_samples(self, count):
        chosen = self.rows[:count]
        self.rows = self.rows[count:]
        return [
            [Sample(index=n, group_index=n, prompt=row["messages"], metadata={"tools": json.loads(row["tools"])})]
            for n, row in enumerate(chosen)
        ]


@pytest.fixture(scope="module")
def rows():
    found, _ = teacher_traces.collect(4, flaws=1.0, seed=1, split="train", advance=lambda done, note: None)
    for row in found:
        for number, message in enumerate(row["messages"]):
            if message.get("step_loss_mask"):
                message["reasoning_content"] = f"Turn {number}."
    return found


@pytest.mark.parametrize("family", ["qwen3", "qwen3 off"])
@pytest.mark.parametrize("train_thinking", [True, False])
def test_a_row_is_the_samples_of_its_sequences(tmp_path, qwen_tokenizer, rows, family, train_thinking):
    tokenizer, thinking = tokenizer_of(qwen_tokenizer, family)
    tokenizer.save_pretrained(tmp_path)
    args = Namespace(hf_checkpoint=str(tmp_path), rollout_batch_size=3)
    args.tau2_thinking, args.tau2_train_thinking = thinking, train_thinking
    out = sft.generate_rollout(args, 0, Source(rows))
    chat = ChatRenderer(tokenizer, json.loads(rows[0]["tools"]), thinking)
    assert len(out) == 3
    for number, (row, (samples,)) in enumerate(zip(rows, out)):
        found = traces.tokenise(row, chat, train_thinking=train_thinking)
        assert [(s.tokens, s.loss_mask) for s in samples] == [(one.tokens, one.loss_mask) for one in found]
        assert all(s.response_length == len(s.loss_mask) < len(s.tokens) for s in samples)
        assert {s.rollout_id for s in samples} == {number} and all(s.reward == 0.0 for s in samples)
        assert len({id(s) for s in samples}) == len(samples)
    assert sum(len(samples) for (samples,) in out) > 3


def test_what_cannot_train_is_refused_by_its_row(tmp_path, qwen_tokenizer, rows):
    qwen_tokenizer.save_pretrained(tmp_path)
    args = Namespace(hf_checkpoint=str(tmp_path), rollout_batch_size=2)
    muted = [{**m, "step_loss_mask": 0} if m["role"] == "assistant" else m for m in rows[1]["messages"]]
    with pytest.raises(ConfigError, match="row 1 of --prompt-data trains no token; `slime-tau2 check-sft`"):
        sft.generate_rollout(args, 0, Source([rows[0], {**rows[1], "messages": muted}]))
    with pytest.raises(ConfigError, match="row 0 of --prompt-data: no row: messages"):
        sft.generate_rollout(args, 0, Source([{**rows[0], "messages": "a text"}]))
    with pytest.raises(ConfigError, match="--eval-interval: SFT has no evaluation"):
        sft.generate_rollout(args, 0, Source(rows), evaluation=True)
