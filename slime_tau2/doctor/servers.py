"""What is running: the policy's server, the user simulator's, Ray."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from slime_tau2.doctor.findings import Finding, fail, ok, warn
from slime_tau2.episode import credentials, lookup
from slime_tau2.episode.openai_chat import ChatClient
from slime_tau2.episode.policy import PolicyClient
from slime_tau2.errors import ConfigError, InfrastructureError, UserError, UserSimulatorError
from slime_tau2.evaluation import identity
from slime_tau2.hosts import NOTHING_SAID, Access
from slime_tau2.limits import Retries
from slime_tau2.tokenizer import load_tokenizer

_TOOL = {
    "type": "function",
    "function": {
        "name": "check_signal",
        "description": "Reads the signal of your phone.",
        "parameters": {"type": "object", "properties": {"line": {"type": "string"}}, "required": ["line"]},
    },
}


async def policy(url: str, access: Access = NOTHING_SAID, model: Path | None = None) -> list[Finding]:
    """An SGLang server: its model, whether a sampled token has its log-prob, and whether its tokenizer is that of a
    model here.
    """
    what, fix = f"policy {url}", "bash launch/serve_policy.sh, or name the server's own URL (without /v1)"
    try:
        client = PolicyClient(url, plain_http=access.plain_http, retries=Retries(timeout_s=60.0, count=0))
    except ConfigError as error:
        return [fail(what, str(error), "")]
    told = await lookup.json_at(f"{url.rstrip('/')}/get_model_info")
    if isinstance(told, str):
        return [fail(what, told, fix)]
    out = [ok(what, f"serves {told.get('model_path')}")]
    try:
        got = await client.generate(b"[1, 2, 3]", {"max_new_tokens": 1, "temperature": 1.0}, "doctor")
        out.append(ok("policy /generate", f"{len(got.ids)} token with its log-prob"))
        return out if model is None else [*out, await _tokenizer(client, model)]
    except InfrastructureError as error:
        return [*out, fail("policy /generate", str(error), fix)]
    finally:
        await client.close()


async def _tokenizer(client: PolicyClient, model: Path) -> Finding:
    """What `eval` compares before a run, but for the length of the context, which only a run knows."""
    what = "policy's tokenizer"
    try:
        told = await identity.check(client, load_tokenizer(model), 0)
    except UserError as error:
        return fail(what, str(error), "")
    return ok(
        what, f"reads and writes as the one at {model}; {told['server']}, {told['context_length']} tokens of context"
    )


async def user(url: str, model: str, key_env: str | None = None, access: Access = NOTHING_SAID) -> list[Finding]:
    """An OpenAI-compatible server: the models that it serves, and whether this one calls a tool when it is told to."""
    what = f"user {url}"
    try:
        client = ChatClient(
            url,
            model,
            key_env=key_env,
            failure=UserSimulatorError,
            options={"temperature": 0.0},
            access=access,
            retries=Retries(timeout_s=60.0, count=1),
        )
        headers = await client.server.headers()
    except (ConfigError, RuntimeError) as error:
        return [fail(what, str(error), "")]
    if client.server.query:  # Azure's older address lists no models
        return [await _calls_a_tool(client)]
    told = await lookup.json_at(f"{client.server.root}/models", headers, proxies=client.server.by_package)
    if isinstance(told, str):
        variable = client.server.variable
        key = (
            f"its key belongs into {variable}"
            if variable
            else "where it wants a key, --user-key names the variable that holds it"
        )
        return [fail(what, told, f"bash launch/serve_user_sim.sh, or set the URL; {key}")]
    served = [m.get("id") for m in told.get("data", [])]
    if served and model not in served:
        shown = ", ".join(map(str, served[:5]))
        return [fail(what, f"serves {shown}, not {model}", "name one of these as tau2_user_model")]
    return [ok(what, f"serves {model}"), await _calls_a_tool(client)]


async def _calls_a_tool(client: ChatClient) -> Finding:
    what, model = "user's tools", client.server.model
    fix = "start SGLang with --tool-call-parser qwen25: telecom's users operate their phone through calls"
    said = [
        {
            "role": "system",
            "content": "You play a customer. When you are asked to check your phone, call check_signal.",
        },
        {"role": "user", "content": "Please check the signal of line L1 now, with the tool."},
    ]
    try:
        reply = await client.complete([json.dumps(m).encode() for m in said], json.dumps([_TOOL]).encode())
    except InfrastructureError as error:
        return fail(what, str(error), fix)
    finally:
        await client.close()
    if any(name == "check_signal" for name, _ in reply.calls):
        return ok(what, f"{model} calls a tool when it is asked to")
    return warn(what, f"{model} was asked to call a tool and said {(reply.text or '')[:80]!r}", fix)


async def ray(address: str) -> Finding:
    try:
        credentials.parsed(address)
    except ConfigError as error:
        return fail("ray", str(error), "")
    told = await lookup.json_at(f"{address.rstrip('/')}/api/version")
    if isinstance(told, str):
        fix = (
            "ray start --head --num-gpus N --disable-usage-stats, with WANDB_API_KEY and other secrets "
            "exported before it"
        )
        return fail("ray", f"{address}: {told}", fix)
    return ok("ray", f"{told.get('ray_version')} at {address}")


async def gathered(*checks: Awaitable[Any]) -> list[Finding]:
    """The findings of all checks, in order."""
    out: list[Finding] = []
    for check in checks:
        found = await check
        out += found if isinstance(found, list) else [found]
    return out
