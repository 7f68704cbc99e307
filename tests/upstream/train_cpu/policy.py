"""A small Qwen3 that has learned the split `few` by heart, errors of the teacher included: its episodes earn anything
from 0 to 1.

A model that knows nothing earns 0 everywhere, and then there is no advantage, no gradient, and nothing to compare.
Grouped queries and a head size of its own, as Qwen3-4B has them; a vocabulary that needs no padding at TP 2 (rows of
padding would enter Megatron's softmax).
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import few_tasks
import torch
from thinking_models import tokenizer_of

from slime_tau2 import bench
from slime_tau2.data.traces import to_row, tokenise
from slime_tau2.domains.helpdesk.teacher import Teacher
from slime_tau2.episode import worlds
from slime_tau2.episode.agents import CallableAgent
from slime_tau2.episode.chat import ChatRenderer
from slime_tau2.episode.driver import run_episode
from slime_tau2.episode.users import DomainUser
from slime_tau2.limits import Limits
from slime_tau2.local.models import save_model
from slime_tau2.local.trainer import Trainer, TrainOptions

STEPS, BATCH, ATTEMPTS = 200, 16, 16


class Hasty(Teacher):
    """Makes each call twice in one message: the second moves no score, and a second refund is one too many."""

    def act(self, text: str, is_error: bool) -> bench.AssistantMessage:
        said = super().act(text, is_error)
        if said.tool_calls:
            said.tool_calls = [*said.tool_calls, said.tool_calls[0].model_copy(deep=True)]
        return said


class Thinker(Teacher):
    """Its rows say before each turn what it will do; `train` takes the hybrid Qwen3's template for it, which drops
    earlier thoughts, so that an episode is several samples.
    """


def _with_thoughts(row: dict) -> dict:
    for message in row["messages"]:
        if message["role"] == "assistant":
            calls = message.get("tool_calls") or []
            wanted = calls[0]["function"]["name"] if calls else "words"
            message["reasoning_content"] = f"Now {wanted}."
    return row


async def _traces(teacher: type[Teacher]) -> list[dict]:
    world, rows = worlds.load("helpdesk"), []
    for n in range(ATTEMPTS * len(few_tasks.TASKS)):
        agent = CallableAgent(teacher(n, 1.0).act)
        episode = await run_episode(
            world, few_tasks.TASKS[n % len(few_tasks.TASKS)], agent, DomainUser(), seed=n, limits=Limits(max_steps=60)
        )
        rows += filter(None, [to_row(episode, bench.agent_prompt(world.policy), world.tool_schemas)])
    return rows


def train(path: Path, chat: Any, tokenizer: Any, teacher: type[Teacher] = Teacher) -> Path:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    told = asyncio.run(_traces(teacher))
    if issubclass(teacher, Thinker):
        tokenizer, _ = tokenizer_of(tokenizer, "qwen3")
        chat, told = ChatRenderer(tokenizer, chat.tools), [_with_thoughts(r) for r in told]
    rows = [one for r in told for one in tokenise(r, chat)]
    random.Random(0).shuffle(rows)
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 256) * 256,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Qwen3ForCausalLM(config)
    trainer, threads = Trainer(model, TrainOptions(lr=4e-3)), torch.get_num_threads()
    torch.set_num_threads(1)  # the model is too small for two, which only wait for each other
    try:
        for step in range(STEPS):
            trainer.sft_step([rows[(BATCH * step + n) % len(rows)] for n in range(BATCH)])
    finally:
        torch.set_num_threads(threads)
    save_model(path, trainer.model, tokenizer)
    return path
