"""What a server says of itself, beside what episodes ask it: health, models, how it was started, how it tokenizes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

PATIENCE_S = 10.0


def root(url: str) -> str:
    """A server's URL without its path."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


async def status(url: str, patience_s: float = PATIENCE_S) -> int:
    """The HTTP status at a URL; 0 where nothing answers."""
    code, _ = await _ask(url, None, {}, patience_s)
    return code


async def json_at(
    url: str,
    headers: Mapping[str, str] | None = None,
    patience_s: float = PATIENCE_S,
    body: dict[str, Any] | None = None,
    proxies: bool = False,
) -> dict[str, Any] | str:
    """The JSON object at a URL, or why there is none.

    Args:
        body: post this; None gets.
        proxies: go through the environment's.
    """
    code, text = await _ask(url, body, headers or {}, patience_s, proxies)
    if not code:
        return f"does not answer ({text})"
    if code >= 300:
        return f"HTTP {code}"
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else "an answer that is no JSON object"


async def first(urls: list[str], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The first JSON object at these URLs, a newer name before an older one; {} where none has one."""
    for url in urls:
        answer = await json_at(url, headers)
        if isinstance(answer, dict):
            return answer
    return {}


async def models(
    base_url: str, headers: Mapping[str, str] | None = None, patience_s: float = PATIENCE_S
) -> dict[str, dict[str, Any]]:
    """What an OpenAI-compatible server says of each model it lists, by name; {} where it lists none."""
    answer = await json_at(f"{base_url.rstrip('/')}/models", headers, patience_s)
    listed = answer.get("data") if isinstance(answer, dict) else None
    return {str(m["id"]): m for m in listed or [] if isinstance(m, dict) and m.get("id") is not None}


async def _ask(
    url: str, body: dict[str, Any] | None, headers: Mapping[str, str], patience_s: float, proxies: bool = False
) -> tuple[int, str]:
    """(status, body), or (0, why there is none). Follows no redirect: the headers are for this server."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=patience_s), trust_env=proxies) as session,
            session.request(
                "GET" if body is None else "POST", url, json=body, headers=headers, allow_redirects=False
            ) as answer,
        ):
            return answer.status, (await answer.read()).decode(errors="replace")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return 0, type(error).__name__
