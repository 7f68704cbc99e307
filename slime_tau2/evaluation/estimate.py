"""What an evaluation would do, and about how many tokens it would take, before it does it.

The estimate assumes a conversation in which the agent makes the solution's calls and speaks `TALK` times beside them. Text is
counted with the policy's tokenizer where one is named, else at `CHARACTERS` a token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from slime_tau2 import bench
from slime_tau2.config import Tau2Config
from slime_tau2.episode.protocols import PROTOCOLS
from slime_tau2.episode.worlds import World
from slime_tau2.evaluation import runner
from slime_tau2.evaluation.presets import Plan

TALK, SAID_TOKENS = 5, 60
"""Agent turns beside the calls (greeting, questions, confirmation, answer, farewell), and the tokens of each: assumed."""
CALL_TOKENS, RESULT_TOKENS = 48, 240
"""Tokens of a call and of its result: rounded means over the three domains that `python tests/bench/call_sizes.py` prints."""
CHARACTERS = 4.0


def lines(plan: Plan, config: Tau2Config, world: World, task_ids: Sequence[str]) -> list[str]:
    """The plan and its estimate, as text."""
    request, count = plan.request, plan.attempts * len(task_ids)
    done = sum(r["reward"] is not None for r in runner.read_records(request.output / "attempts.jsonl"))
    where = f"{request.policy} on {request.domain}/{plan.split}"
    user = f", {config.user_model} at {config.user_base_url}, T={config.user_temperature}" if config.user == "llm" else ""
    out = [
        f"{where}: {len(task_ids)} tasks × {plan.attempts} attempts = {count}, {done} of them done",
        f"temperature {plan.temperature}, top_p {plan.top_p}, top_k {plan.top_k}; seed {request.seed}; {request.concurrency} at a time",
        f"protocol: {config.protocol}; user: {config.user}{user}",
        f"limits: {config.max_steps} steps, {config.max_errors} errors, {config.max_context_tokens} tokens",
        f"reward basis of retail: {config.retail_basis}",
    ]
    if world.retrieval:
        out.append(f"retrieval: {world.retrieval}")
    judged = sum(bench.judge_request(world.task(t), []) is not None for t in task_ids)
    if judged:
        out.append(f"judge: {config.judge_model} at {config.judge_base_url}, for {judged} of the tasks")
    criteria = [world.task(t).evaluation_criteria for t in task_ids]
    calls = fmean(len((c.actions if c else None) or []) for c in criteria)
    count_tokens = _counter(request.tokenizer)
    protocol = PROTOCOLS[config.protocol]
    prompt = protocol.system_prompt(world.policy_for(task_ids[0]), world.tool_schemas, config.agent_prompt)
    head = count_tokens(prompt + json.dumps(protocol.template_tools(world.tool_schemas) or ""))
    left, turns = count - done, calls + TALK
    sampled = calls * CALL_TOKENS + TALK * SAID_TOKENS
    added = sampled + calls * RESULT_TOKENS + TALK * SAID_TOKENS
    sent = turns * head + added * turns / 2
    out += [
        f"estimate for the {left} attempts left, {calls:.1f} calls each:",
        f"  policy: {_millions(left * sent)} tokens sent, all but {_millions(left * added)} of them in the prefix cache at best, "
        f"{_millions(left * sampled)} sampled",
    ]
    if config.user == "llm":
        prompts = [bench.user_prompt(str(world.task(t).user_scenario), False) for t in list(task_ids)[:20]]
        told = fmean(count_tokens(p) for p in prompts) + TALK * SAID_TOKENS
        out.append(f"  user: {_millions(left * TALK * told)} tokens sent, {_millions(left * TALK * SAID_TOKENS)} sampled")
    return [*out, "  times your provider's prices; conversations that go wrong are longer"]


def _millions(tokens: float) -> str:
    return f"{tokens / 1e6:.2f} M"


def _counter(tokenizer: Path | None) -> Callable[[str], float]:
    """Text -> its tokens, counted with a tokenizer or guessed from its length."""
    if tokenizer is None:
        return lambda text: len(text) / CHARACTERS
    from slime_tau2.local.models import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    return lambda text: len(loaded.encode(text, add_special_tokens=False))
