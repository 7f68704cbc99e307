"""What an evaluation evaluates: a script, a model directory, a server by its tokens (SGLang, vLLM), any OpenAI one by
its text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from slime_tau2 import plugins
from slime_tau2.config import Tau2Config
from slime_tau2.episode import credentials, scripts, worlds
from slime_tau2.episode.agents import ScriptedAgent
from slime_tau2.episode.api_agent import ApiAgent, TextApiAgent
from slime_tau2.episode.harness import Harness, eval_user_server
from slime_tau2.episode.openai_chat import ChatClient, thinking
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.episode.protocols import read_template
from slime_tau2.episode.vllm import VLLMClient
from slime_tau2.errors import ConfigError, PolicyError
from slime_tau2.evaluation import identity, runner
from slime_tau2.evaluation.presets import Plan
from slime_tau2.local.process import ServerProcess
from slime_tau2.tokenizer import load_tokenizer
from slime_tau2.types import Episode

Identify = Callable[[], Awaitable[dict[str, Any]]]
"""Asks the policy's server who it is, before the first attempt: {"policy_server": what `identity.check` returns} for
the results, {} where there is no tokenizer to compare.
"""


def policy(plan: Plan, config: Tau2Config, stack: ExitStack) -> tuple[runner.RunOne, dict[str, Any], Harness, Identify]:
    """How to run one episode, what identifies the policy in the results, its harness, and the check of its server."""
    request = plan.request
    settings: dict[str, Any] = {
        "policy": request.policy,
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
        settings |= {
            "user_model": config.eval_user_model or config.user_model,
            "user_temperature": config.user_temperature,
        }
        settings |= {"user_thinking": config.user_thinking, "user_base_url": eval_user_server(config)[0]}
    if config.agent_prompt is not None:
        settings["agent_prompt_sha256"] = hashlib.sha256(read_template(config.agent_prompt).encode()).hexdigest()
    if request.policy in scripts.SCRIPTS:
        box = Harness(config)

        async def scripted(world: worlds.World, task_id: str, seed: int) -> Episode:
            agent = ScriptedAgent(scripts.script(request.policy, world.task(task_id)))
            return await box.run(world, task_id, agent, seed, evaluation=True)

        return scripted, settings, box, _nobody
    served = request.policy.startswith(("http://", "https://"))
    compatible = served and request.policy.rstrip("/").endswith("/v1")
    if compatible and request.model is None:
        raise ConfigError(f"--policy {request.policy} is an OpenAI-compatible server: name its model with --model")
    if compatible and request.tokenizer is None:
        return _api_policy(plan, config, settings)
    url, at = request.policy, (config.policy_concurrency, config.policy_timeout_s, config.policy_retries)
    if compatible and request.tokenizer is not None:
        tokenizer = load_tokenizer(request.tokenizer)
    elif served:
        if request.tokenizer is None:
            raise ConfigError(
                f"--policy {request.policy} is an SGLang server: name its tokenizer's directory with --tokenizer "
                "(an OpenAI-compatible "
                "server's URL ends with /v1)"
            )
        tokenizer = load_tokenizer(request.tokenizer)
    elif Path(request.policy).is_dir():
        tokenizer = load_tokenizer(request.tokenizer or Path(request.policy))
        url = stack.enter_context(ServerProcess(Path(request.policy), request.output / "server.log")).url
    else:
        raise ConfigError(
            f"--policy {request.policy} is neither {', '.join(scripts.SCRIPTS)}, nor a model directory, nor a URL"
        )
    if compatible:
        client: PolicyClient = VLLMClient(
            url, str(request.model), config.policy_key_env, *at, plain_http=config.plain_http
        )
    else:  # a server of our own making has no key
        client = PolicyClient(url, *at, plain_http=config.plain_http, key_env=config.policy_key_env if served else None)
    box = Harness(config, tokenizer, client)
    sampling = {"temperature": plan.temperature, "top_p": plan.top_p, "top_k": plan.top_k}

    async def sampled(world: worlds.World, task_id: str, seed: int) -> Episode:
        budget, own_seed, key = (
            config.max_context_tokens,
            seed if config.seeded_sampling else None,
            f"eval-{task_id}-{seed}",
        )
        agent = box.agent(world, {**sampling, "max_new_tokens": budget}, own_seed, key, task_id=task_id)
        return await box.run(world, task_id, agent, seed, evaluation=True, routing_key=key)

    settings["thinking"] = config.thinking
    limits = {"max_turn_tokens": config.max_turn_tokens, "max_context_tokens": config.max_context_tokens}

    async def identify() -> dict[str, Any]:
        return {"policy_server": await identity.check(client, tokenizer, config.max_context_tokens)}

    named = {"model": request.model} if compatible else {}
    return sampled, settings | sampling | limits | named, box, identify


async def _nobody() -> dict[str, Any]:
    return {}


def _api_policy(
    plan: Plan, config: Tau2Config, settings: dict[str, Any]
) -> tuple[runner.RunOne, dict[str, Any], Harness, Identify]:
    request = plan.request
    sampling: dict[str, Any] = {"temperature": plan.temperature, "top_p": plan.top_p}
    if plan.top_k != -1:
        if credentials.is_openai(request.policy):
            raise ConfigError(
                f"top_k {plan.top_k}: {request.policy} has no such parameter; say --top-k -1, and compare with care"
            )
        sampling["top_k"] = plan.top_k  # SGLang and vLLM know it beside OpenAI's own parameters
    client = ChatClient(
        request.policy,
        str(request.model),
        config.policy_key_env,
        PolicyError,
        {**sampling, **thinking(config.thinking, request.policy, "thinking")},
        config.policy_concurrency,
        config.policy_timeout_s,
        config.policy_retries,
        access=config.access,
    )
    box = Harness(config, None, client)
    tools: dict[str, bytes] = {}

    async def asked(world: worlds.World, task_id: str, seed: int) -> Episode:
        if world.domain not in tools:
            tools[world.domain] = json.dumps(world.tool_schemas, ensure_ascii=False).encode()
        prompt = box.system_prompt(world, task_id)
        key = f"eval-{task_id}-{seed}"
        native = ApiAgent(client, prompt, tools[world.domain], seed, key)
        agent = native if config.protocol == "native" else TextApiAgent(client, prompt, box.protocol, seed, key)
        return await box.run(world, task_id, agent, seed, evaluation=True, routing_key=key)

    return asked, settings | sampling | {"model": request.model, "thinking": config.thinking}, box, _nobody
