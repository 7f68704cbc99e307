"""What an evaluation would do, and about how many tokens it would take, before it does it.

With an earlier run to go by, tokens of an attempt are what that run's servers reported, domain by domain. Without one,
a conversation is assumed in which the agent makes the solution's calls and speaks `TALK` times beside them; text is
counted with the policy's tokenizer where one is named, else at `CHARACTERS` per token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from slime_tau2 import bench, traits
from slime_tau2.config import Tau2Config
from slime_tau2.data import records
from slime_tau2.episode.harness import eval_user_server
from slime_tau2.episode.protocols import PROTOCOLS
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError
from slime_tau2.evaluation import costs, runs
from slime_tau2.evaluation.costs import Tokens
from slime_tau2.evaluation.plan import TaskSet
from slime_tau2.evaluation.request import ResolvedRequest
from slime_tau2.tokenizer import load_tokenizer

TALK, SAID_TOKENS = 5, 60
"""Agent turns beside the calls (greeting, questions, confirmation, answer, farewell), and the tokens of each: assumed.
"""
CALL_TOKENS, RESULT_TOKENS = 48, 240
"""Tokens of a call and of its result: rounded means over the three domains that `python tests/bench/call_sizes.py`
prints.
"""
CHARACTERS = 4.0


@dataclass(frozen=True)
class DryRun:
    """How to estimate."""

    like: Path | None = None
    """Directory of an earlier run, whose tokens per attempt are taken."""
    prices: Path | None = None
    """A table of prices (`costs.read_prices`)."""

    def lines(
        self, resolved: ResolvedRequest, sets: Sequence[TaskSet], config: Tau2Config, worlds: Mapping[str, World]
    ) -> list[str]:
        """The plan and its estimate, as text.

        Raises:
            ConfigError: the earlier run or the table of prices cannot be used.
        """
        left = _attempts_left(resolved, sets)
        if self.like is None:
            source = "assumed; --like RUN takes them from an earlier run"
            each = {s.domain: _assumed(resolved, config, worlds[s.domain], s.tasks) for s in sets}
        else:
            source = f"as in {self.like}"
            each = _measured(self.like, left)
        total: dict[str, Tokens] = {}
        for domain, roles in each.items():
            for role, tokens in roles.items():
                total[role] = total.get(role, Tokens()) + tokens * left[domain]
        prices = None if self.prices is None else costs.read_prices(self.prices)
        return [
            *_plan(resolved, sets, config, worlds, sum(left.values())),
            *([] if self.like is None else _other_models(self.like, _models(resolved, config))),
            f"estimate for the {sum(left.values())} attempts left (tokens of an attempt: {source}):",
            *(f"  {line}" for line in costs.lines(total, _models(resolved, config), prices)),
        ]


def _attempts_left(resolved: ResolvedRequest, sets: Sequence[TaskSet]) -> dict[str, int]:
    """{domain: attempts that have no score yet}."""
    before = records.so_far(resolved.request.output / records.FILE)
    done = records.scored_attempts(before)
    return {
        s.domain: sum((s.domain, t, n) not in done for t in s.tasks for n in range(resolved.attempts)) for s in sets
    }


def _plan(
    resolved: ResolvedRequest,
    sets: Sequence[TaskSet],
    config: Tau2Config,
    worlds: Mapping[str, World],
    left: int,
) -> list[str]:
    """What would be run, one line per subject."""
    request = resolved.request
    tasks = sum(len(s.tasks) for s in sets)
    count = tasks * resolved.attempts
    url, user_model, _ = eval_user_server(config)
    user = f", {user_model} at {url}, T={config.user_temperature}" if config.user == "llm" else ""
    out = [
        f"{request.policy} on {', '.join(f'{s.domain} ({s.name})' for s in sets)}: {tasks} tasks × "
        f"{resolved.attempts} attempts = {count}, {count - left} of them done",
        f"temperature {resolved.temperature}, top_p {resolved.top_p}, top_k {resolved.top_k}; seed {request.seed}; "
        f"{request.concurrency} at a time",
        f"protocol: {config.protocol}; user: {config.user}{user}",
        f"limits: {config.max_steps} steps, {config.max_errors} errors, {config.max_context_tokens} tokens",
    ]
    rescored = [s.domain for s in sets if traits.of(s.domain).without_judge]
    if rescored:
        out.append(f"reward basis of {', '.join(rescored)}: {config.retail_basis}")
    out += [f"retrieval: {w.retrieval}" for w in worlds.values() if w.retrieval]
    judged = sum(bench.judge_request(worlds[s.domain].task(t), []) is not None for s in sets for t in s.tasks)
    if judged:
        out.append(f"judge: {config.judge_model} at {config.judge_base_url}, for {judged} of the tasks")
    return out


def _models(resolved: ResolvedRequest, config: Tau2Config) -> dict[str, Any]:
    """Who acts, by the names of a plan's settings."""
    return {
        "policy": resolved.request.policy,
        "model": resolved.request.model,
        "user_model": eval_user_server(config)[1],
        "judge_model": config.judge_model,
    }


def _other_models(like: Path, models: Mapping[str, Any]) -> list[str]:
    """What an earlier run's tokens are of, where that is another policy or model than would act now."""
    settings = runs.load(like).plan.settings
    by_address = settings.get("model") is not None and models["model"] is not None  # then the model's name counts
    differing = []
    for key, model in models.items():
        earlier = settings.get(key)
        if earlier is not None and earlier != model and not (key == "policy" and by_address):
            differing.append(f"{key} {earlier} there, {model} here")
    return [f"the tokens of {like} are of another run: {'; '.join(differing)}"] if differing else []


def _measured(directory: Path, left: Mapping[str, int]) -> dict[str, dict[str, Tokens]]:
    """{domain: {role: mean tokens of an attempt}} of an earlier run.

    Raises:
        ConfigError: it has no attempt in a domain, or no tokens.
    """
    earlier = runs.load(directory)
    out = {}
    for domain in left:
        part = [r for r in earlier.records if r["domain"] == domain]
        if not part or not costs.used(part):
            raise ConfigError(
                f"--like {directory}: it holds no {'tokens' if part else 'attempt'} of {domain}; name another run"
            )
        out[domain] = {role: tokens * (1 / len(part)) for role, tokens in costs.used(part).items()}
    return out


def _assumed(resolved: ResolvedRequest, config: Tau2Config, world: World, task_ids: Sequence[str]) -> dict[str, Tokens]:
    """{role: tokens of an attempt}; everything that was sent before is in the prefix cache."""
    criteria = [world.task(t).evaluation_criteria for t in task_ids]
    calls = fmean(len((c.actions if c else None) or []) for c in criteria)
    count_tokens = _counter(resolved.request.tokenizer)
    protocol = PROTOCOLS[config.protocol]
    prompt = protocol.system_prompt(world.policy_for(task_ids[0]), world.tool_schemas, config.agent_prompt)
    head = count_tokens(prompt + json.dumps(protocol.template_tools(world.tool_schemas) or ""))
    turns = calls + TALK
    sampled = calls * CALL_TOKENS + TALK * SAID_TOKENS
    added = sampled + calls * RESULT_TOKENS + TALK * SAID_TOKENS
    sent = turns * head + added * turns / 2
    out = {"policy": Tokens(requests=turns, prompt=sent, cached=sent - added, completion=sampled)}
    if config.user == "llm":
        prompts = [bench.user_prompt(str(world.task(t).user_scenario), False) for t in list(task_ids)[:20]]
        read = fmean(count_tokens(p) for p in prompts) + TALK * SAID_TOKENS
        out["user"] = Tokens(requests=TALK, prompt=TALK * read, completion=TALK * SAID_TOKENS)
    return out


def _counter(tokenizer: Path | None) -> Callable[[str], float]:
    """Text -> its tokens, counted with a tokenizer or guessed from its length."""
    if tokenizer is None:
        return lambda text: len(text) / CHARACTERS
    loaded = load_tokenizer(tokenizer)
    return lambda text: len(loaded.encode(text, add_special_tokens=False))
