"""The policies that can be evaluated.

A script; a model directory; a server that is asked by tokens (SGLang, vLLM); any OpenAI-compatible one, by text.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from slime_tau2 import manifest, plugins
from slime_tau2.config import Tau2Config
from slime_tau2.episode import credentials, scaffolds, scripts
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.api_agent import ApiAgent, TextApiAgent
from slime_tau2.episode.harness import Harness, eval_user_server
from slime_tau2.episode.openai_chat import ChatClient, thinking
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import read_template
from slime_tau2.episode.vllm import VLLMClient
from slime_tau2.episode.world import World
from slime_tau2.errors import ConfigError, PolicyError
from slime_tau2.evaluation import identity, runner
from slime_tau2.evaluation.plan import PolicyServer, RunSettings
from slime_tau2.evaluation.request import ResolvedRequest
from slime_tau2.local.process import ServerProcess
from slime_tau2.tokenizer import Tokenizer, load_tokenizer
from slime_tau2.types import Episode

Identify = Callable[[], Awaitable[PolicyServer | None]]
"""Asks the policy's server who it is, before the first attempt; None where there is none that can say it."""

Remake: TypeAlias = Callable[[Tau2Config], "EvaluatedPolicy"]
"""A configuration -> the policy under it. It can be pickled."""


async def _nobody() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class EvaluatedPolicy:
    """A policy that is ready to play."""

    run_one: runner.RunOne
    """Plays one episode."""
    settings: RunSettings
    """What the plan says about the policy and the conditions that it plays under."""
    harness: Harness
    """The policy's clients, for whoever watches and closes them."""
    identify: Identify = _nobody
    remake: Remake
    """Makes the same policy under another configuration, in another process."""


def policy(resolved: ResolvedRequest, config: Tau2Config, stack: ExitStack) -> EvaluatedPolicy:
    """The policy that a request names. The server of a model directory runs for as long as `stack` is open.

    Raises:
        ConfigError: the request names no policy, or a server without what is needed to ask it.
    """
    request = resolved.request
    if request.is_script:
        return _script(request.policy, config)
    if not request.policy.startswith(("http://", "https://")):
        return _model_directory(resolved, config, stack)
    if not request.policy.rstrip("/").endswith("/v1"):
        if request.tokenizer is None:
            raise ConfigError(
                f"--policy {request.policy} is an SGLang server: name its tokenizer's directory with --tokenizer "
                "(an OpenAI-compatible server's URL ends with /v1)"
            )
        return _sglang(resolved, load_tokenizer(request.tokenizer), request.policy, config.policy_key_env, config)
    if request.model is None:
        raise ConfigError(f"--policy {request.policy} is an OpenAI-compatible server: name its model with --model")
    if request.tokenizer is None:
        return _by_text(resolved, request.model, config)
    return _vllm(resolved, load_tokenizer(request.tokenizer), request.model, config)


def _conditions(name: str, config: Tau2Config) -> RunSettings:
    """The settings that every policy has."""
    settings: RunSettings = {
        "policy": name,
        "user": config.user,
        "max_steps": config.max_steps,
        "max_errors": config.max_errors,
        "retail_basis": config.retail_basis,
        "judge_model": config.judge_model,
        "protocol": config.protocol,
        "stop_at_tool_call": config.stop_at_tool_call,
        "seeded_sampling": config.seeded_sampling,
        "episode_timeout_s": config.episode_timeout_s,
    }
    if config.user == "llm" or plugins.named(config.user):
        settings["user_model"] = config.eval_user_model or config.user_model
        settings["user_temperature"] = config.user_temperature
        settings["user_thinking"] = config.user_thinking
        settings["user_base_url"] = eval_user_server(config)[0]
    if config.agent_prompt is not None:
        settings["agent_prompt_sha256"] = hashlib.sha256(read_template(config.agent_prompt).encode()).hexdigest()
    return settings


def _agent(harness: Harness) -> RunSettings:
    """What is said of an agent of one's own; nothing of ours. One that will not do is found here, before a server is
    asked.
    """
    path = harness.config.agent
    if path is None or harness.own_agents is None:
        return {}
    return {"agent": path, "agent_sha256": scaffolds.sha256(path)}


def _script(name: str, config: Tau2Config) -> EvaluatedPolicy:
    harness = Harness(config)

    async def run_one(world: World, task_id: str, seed: int) -> Episode:
        agent = ScriptedAgent(scripts.script(name, world.task(task_id)))
        return await harness.run(world, task_id, agent, seed=seed, evaluation=True)

    remake = functools.partial(_script, name)
    return EvaluatedPolicy(run_one=run_one, settings=_conditions(name, config), harness=harness, remake=remake)


def _model_directory(resolved: ResolvedRequest, config: Tau2Config, stack: ExitStack) -> EvaluatedPolicy:
    """A model that this process serves itself. The server's log is in the run's directory, so that is locked first."""
    request, model = resolved.request, Path(resolved.request.policy)
    if not model.is_dir():
        raise ConfigError(
            f"--policy {request.policy} is neither {', '.join(scripts.SCRIPTS)}, nor a model directory, nor a URL"
        )
    tokenizer = load_tokenizer(request.tokenizer or model)
    stack.enter_context(manifest.held(request.output))
    server = stack.enter_context(ServerProcess(model, request.output / "server.log"))
    return _sglang(resolved, tokenizer, server.url, None, config)


def _sglang(
    resolved: ResolvedRequest, tokenizer: Tokenizer, url: str, key_env: str | None, config: Tau2Config
) -> EvaluatedPolicy:
    client = PolicyClient(
        url,
        concurrency=config.policy_concurrency,
        plain_http=config.plain_http,
        key_env=key_env,
        retries=config.policy_client_retries,
    )
    remake = functools.partial(_sglang, resolved, tokenizer, url, key_env)
    return _by_tokens(resolved, client, tokenizer, remake, config)


def _vllm(resolved: ResolvedRequest, tokenizer: Tokenizer, model: str, config: Tau2Config) -> EvaluatedPolicy:
    client = VLLMClient(
        resolved.request.policy,
        model,
        key_env=config.policy_key_env,
        concurrency=config.policy_concurrency,
        plain_http=config.plain_http,
        retries=config.policy_client_retries,
    )
    remake = functools.partial(_vllm, resolved, tokenizer, model)
    policy = _by_tokens(resolved, client, tokenizer, remake, config)
    policy.settings["model"] = model
    return policy


def _by_tokens(
    resolved: ResolvedRequest, client: PolicyClient, tokenizer: Tokenizer, remake: Remake, config: Tau2Config
) -> EvaluatedPolicy:
    """A server that takes token ids and returns them with their log-probs."""
    harness = Harness(config, tokenizer, client)
    sampling = {**resolved.sampling, "max_new_tokens": config.max_context_tokens}

    async def run_one(world: World, task_id: str, seed: int) -> Episode:
        key = f"eval-{task_id}-{seed}"
        agent = harness.agent(
            world,
            sampling=sampling,
            seed=seed if config.seeded_sampling else None,
            routing_key=key,
            task_id=task_id,
            episode_seed=seed,
        )
        return await harness.run(world, task_id, agent, seed=seed, evaluation=True, routing_key=key)

    async def identify() -> PolicyServer:
        return await identity.check(client, tokenizer, config.max_context_tokens)

    settings: RunSettings = {
        **_conditions(resolved.request.policy, config),
        **_agent(harness),
        "thinking": config.thinking,
        "temperature": resolved.temperature,
        "top_p": resolved.top_p,
        "top_k": resolved.top_k,
        "max_turn_tokens": config.max_turn_tokens,
        "max_context_tokens": config.max_context_tokens,
    }
    if config.max_thinking_tokens:
        settings["max_thinking_tokens"] = config.max_thinking_tokens
        settings["cut_thoughts"] = config.cut_thoughts
    return EvaluatedPolicy(run_one=run_one, settings=settings, harness=harness, identify=identify, remake=remake)


def _by_text(resolved: ResolvedRequest, model: str, config: Tau2Config) -> EvaluatedPolicy:
    """A server of chat completions, which shows no tokens."""
    url = resolved.request.policy
    if config.agent is not None:
        raise ConfigError(
            f"tau2_agent = {config.agent}: --policy {url} is asked for text, and an agent of your own asks by tokens; "
            "name the directory of its tokenizer with --tokenizer (SGLang, vLLM)"
        )
    if config.max_thinking_tokens:
        raise ConfigError(
            f"max_thinking_tokens = {config.max_thinking_tokens}: {url} shows no tokens to count; bound the thoughts "
            "there, or evaluate by tokens"
        )
    sampling: dict[str, Any] = {"temperature": resolved.temperature, "top_p": resolved.top_p}
    if resolved.top_k != -1:
        if credentials.is_openai(url):
            raise ConfigError(
                f"top_k {resolved.top_k}: {url} has no such parameter; say --top-k -1, and compare with care"
            )
        sampling["top_k"] = resolved.top_k  # SGLang and vLLM know it beside OpenAI's own parameters
    # a limit that nobody asked for would cut the thoughts of a model whose thoughts count as its reply
    max_tokens = config.max_turn_tokens if "max_turn_tokens" in config.model_fields_set else None
    client = ChatClient(
        url,
        model,
        key_env=config.policy_key_env,
        failure=PolicyError,
        options={**sampling, **thinking(config.thinking, url, "thinking")},
        max_tokens=max_tokens,
        concurrency=config.policy_concurrency,
        access=config.access,
        retries=config.policy_client_retries,
    )
    harness = Harness(config, None, client)

    async def identify() -> PolicyServer | None:
        return None if client.answered_as is None else {"model": client.answered_as}

    tools: dict[str, bytes] = {}

    async def run_one(world: World, task_id: str, seed: int) -> Episode:
        if world.domain not in tools:
            tools[world.domain] = json.dumps(world.tool_schemas, ensure_ascii=False).encode()
        prompt = harness.system_prompt(world, task_id)
        key = f"eval-{task_id}-{seed}"
        agent: ApiAgent | TextApiAgent
        if config.protocol == "native":
            agent = ApiAgent(client, system_prompt=prompt, tools=tools[world.domain], seed=seed, routing_key=key)
        else:
            agent = TextApiAgent(client, system_prompt=prompt, protocol=harness.protocol, seed=seed, routing_key=key)
        return await harness.run(world, task_id, agent, seed=seed, evaluation=True, routing_key=key)

    settings: RunSettings = {
        **_conditions(url, config),
        "temperature": resolved.temperature,
        "top_p": resolved.top_p,
        "model": model,
        "thinking": config.thinking,
    }
    if resolved.top_k != -1:
        settings["top_k"] = resolved.top_k
    if max_tokens is not None:
        settings["max_turn_tokens"] = max_tokens
    remake = functools.partial(_by_text, resolved, model)
    return EvaluatedPolicy(run_one=run_one, settings=settings, harness=harness, identify=identify, remake=remake)
