"""Names of models as LiteLLM writes them (`azure/…`, `bedrock/…`), which tau2's own commands take, refused with the way
to say it here.

Whether a name is one depends on the host. OpenAI's own has no model with a slash. A server of one's own names models as
Hugging Face does: `Qwen/Qwen3-4B` and `openai/gpt-oss-20b` are right there, and no model of one's own is called
`bedrock/…`. At any other host (a gateway, OpenRouter), and at one that `hosts` names, names are the gateway's own
business.
"""

from __future__ import annotations

import re

from slime_tau2.episode import credentials
from slime_tau2.errors import ConfigError
from slime_tau2.hosts import Access

_COMPATIBLE = {
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "groq": "https://api.groq.com/openai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "mistral": "https://api.mistral.ai/v1",
}
_ROUTES = {
    "azure",
    "azure_ai",
    "bedrock",
    "vertex_ai",
    "sagemaker",
    "hosted_vllm",
    "ollama",
    "ollama_chat",
    "litellm_proxy",
    *_COMPATIBLE,
}
_OPENAIS_OWN = re.compile(r"(gpt-[345]|o\d|chatgpt)")


def check(model: str, base_url: str, access: Access) -> None:
    """
    Raises:
        ConfigError: LiteLLM's name, at a host where it cannot be the model's.
    """
    route, slash, name = model.partition("/")
    if not slash or (access.named(base_url) is not None and not credentials.is_openai(base_url)):
        return
    hosted = credentials.is_openai(base_url)
    if route == "openai":
        wrong = hosted or (credentials.is_ours(base_url) and _OPENAIS_OWN.match(name) is not None)
    else:
        wrong = route in _ROUTES and (hosted or credentials.is_ours(base_url))
    if wrong:
        raise ConfigError(
            f"{model} is LiteLLM's way to name a model; here a server is named by its URL: {_said_here(route, name)}"
        )


def _said_here(route: str, name: str) -> str:
    if route == "openai":
        return f"{name} at https://api.openai.com/v1"
    if route in ("azure", "azure_ai"):
        return f"{name} (the deployment) at https://RESOURCE.openai.azure.com/openai/v1"
    if route in _COMPATIBLE:
        return f"{name} at {_COMPATIBLE[route]}, or at a gateway"
    if route in ("hosted_vllm", "ollama", "ollama_chat"):
        return f"{name} at that server's own http://HOST:PORT/v1"
    return (
        f"its own name at an OpenAI-compatible gateway to {route}, such as LiteLLM's proxy (hosts={{HOST: "
        f"{{}}}} if that is yours)"
    )
