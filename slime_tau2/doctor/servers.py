"""The servers that a run needs: the policy's, the user simulator's, Ray's."""

from __future__ import annotations

import json
from pathlib import Path

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
    """An SGLang server: its model, whether a sampled token has its log-prob, and whether its tokenizer is `model`'s."""
    what = f"policy {url}"
    fix = "bash launch/serve_policy.sh, or name the server's own URL (without /v1)"
    try:
        client = PolicyClient(url, plain_http=access.plain_http, retries=Retries(timeout_s=60.0, count=0))
    except ConfigError as error:
        return [fail(what, str(error), "")]
    info = await lookup.json_at(f"{url.rstrip('/')}/get_model_info")
    if isinstance(info, str):
        return [fail(what, info, fix)]
    out = [ok(what, f"serves {info.get('model_path')}")]
    try:
        sampled = await client.generate(b"[1, 2, 3]", {"max_new_tokens": 1, "temperature": 1.0}, "doctor")
        out.append(ok("policy /generate", f"{len(sampled.ids)} token with its log-prob"))
        if model is not None:
            out.append(await _tokenizer(client, model))
        return out
    except InfrastructureError as error:
        return [*out, fail("policy /generate", str(error), fix)]
    finally:
        await client.close()


async def _tokenizer(client: PolicyClient, model: Path) -> Finding:
    """What `eval` compares before a run, except the length of the context: only a run knows that."""
    what = "policy's tokenizer"
    try:
        server = await identity.check(client, load_tokenizer(model), 0)
    except UserError as error:
        return fail(what, str(error), "")
    about = f"{server['server']}, {server['context_length']} tokens of context"
    return ok(what, f"reads and writes as the one at {model}; {about}")


async def user(url: str, model: str, key_env: str | None = None, access: Access = NOTHING_SAID) -> list[Finding]:
    """An OpenAI-compatible server: the models that it serves, and whether this one calls a tool when it is asked to."""
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
    listed = await lookup.json_at(f"{client.server.root}/models", headers, proxies=client.server.by_package)
    if isinstance(listed, str):
        key = "where it wants a key, --user-key names the variable that holds it"
        if client.server.variable:
            key = f"its key belongs into {client.server.variable}"
        return [fail(what, listed, f"bash launch/serve_user_sim.sh, or set the URL; {key}")]
    served = [m.get("id") for m in listed.get("data", [])]
    if served and model not in served:
        shown = ", ".join(map(str, served[:5]))
        return [fail(what, f"serves {shown}, not {model}", "name one of these as tau2_user_model")]
    return [ok(what, f"serves {model}"), await _calls_a_tool(client)]


async def _calls_a_tool(client: ChatClient) -> Finding:
    what, model = "user's tools", client.server.model
    fix = "start SGLang with --tool-call-parser qwen25: telecom's users operate their phone through calls"
    role = "You play a customer. When you are asked to check your phone, call check_signal."
    request = "Please check the signal of line L1 now, with the tool."
    messages = [{"role": "system", "content": role}, {"role": "user", "content": request}]
    try:
        reply = await client.complete([json.dumps(m).encode() for m in messages], json.dumps([_TOOL]).encode())
    except InfrastructureError as error:
        return fail(what, str(error), fix)
    finally:
        await client.close()
    if any(name == "check_signal" for name, _ in reply.calls):
        return ok(what, f"{model} calls a tool when it is asked to")
    return warn(what, f"{model} was asked to call a tool and said {(reply.text or '')[:80]!r}", fix)


async def ray(address: str) -> Finding:
    """Ray's job server: its version."""
    try:
        credentials.parsed(address)
    except ConfigError as error:
        return fail("ray", str(error), "")
    info = await lookup.json_at(f"{address.rstrip('/')}/api/version")
    if isinstance(info, str):
        fix = (
            "ray start --head --num-gpus N --disable-usage-stats, with WANDB_API_KEY and other secrets "
            "exported before it"
        )
        return fail("ray", f"{address}: {info}", fix)
    return ok("ray", f"{info.get('ray_version')} at {address}")
