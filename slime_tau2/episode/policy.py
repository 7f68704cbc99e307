"""Client of SGLang's `/generate`: token ids in, sampled ids and their log-probs out.

It has its own limiter, held per request (slime's semaphore counts live episodes, which mostly wait for the user).
Transient trouble is retried with back-off; a request that the server refuses (HTTP 4xx) is not. Sessions and limiters
are per event loop.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from slime_tau2.errors import PolicyAborted, PolicyError


@dataclass(frozen=True)
class Generation:
    """One completion. `finish_reason` is stop or length; `ids` include the sampled stop token."""

    ids: list[int]
    log_probs: list[float]
    finish_reason: str
    meta: dict[str, Any]


class PolicyClient:
    """One policy server (or router). Share one client between all episodes of a process."""

    def __init__(self, url: str, concurrency: int = 256, timeout_s: float = 300.0, retries: int = 4, backoff_s: float = 0.5):
        self.url, self.concurrency, self.timeout_s, self.retries, self.backoff_s = (
            url.rstrip("/"),
            concurrency,
            timeout_s,
            retries,
            backoff_s,
        )
        self._per_loop: weakref.WeakKeyDictionary[Any, tuple[aiohttp.ClientSession, asyncio.Semaphore]] = weakref.WeakKeyDictionary()

    def _here(self) -> tuple[aiohttp.ClientSession, asyncio.Semaphore]:
        loop = asyncio.get_running_loop()
        if loop not in self._per_loop or self._per_loop[loop][0].closed:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
            self._per_loop[loop] = aiohttp.ClientSession(connector=connector), asyncio.Semaphore(self.concurrency)
        return self._per_loop[loop]

    async def generate(self, ids: Sequence[int], sampling_params: dict[str, Any], routing_key: str | None = None) -> Generation:
        """Sample one continuation of `ids`.

        Raises:
            PolicyAborted: the server aborted the request; carries what it had sampled.
            PolicyError: it refused the request, or failed `retries` + 1 times.
        """
        body = {"input_ids": list(ids), "sampling_params": sampling_params, "return_logprob": True}
        headers = {"X-SMG-Routing-Key": routing_key} if routing_key else {}
        session, limiter = self._here()
        last = ""
        for attempt in range(self.retries + 1):
            if attempt:
                await asyncio.sleep(self.backoff_s * 2 ** (attempt - 1))
            try:
                async with (
                    limiter,
                    asyncio.timeout(self.timeout_s),
                    session.post(f"{self.url}/generate", json=body, headers=headers) as reply,
                ):
                    if 400 <= reply.status < 500 and reply.status not in (408, 429):
                        raise PolicyError(f"{self.url} refused {len(ids)} tokens: HTTP {reply.status} {(await reply.text())[:300]}")
                    if reply.status != 200:
                        last = f"HTTP {reply.status} {(await reply.text())[:200]}"
                        continue
                    return _generation(await reply.json())
            except TimeoutError:
                last = f"no answer within {self.timeout_s} s"
            except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
                last = f"{type(error).__name__}: {error}"
        raise PolicyError(f"{self.url} failed {self.retries + 1} times, the last time with: {last}")

    async def close(self) -> None:
        """Close this event loop's session."""
        session, _ = self._per_loop.pop(asyncio.get_running_loop(), (None, None))
        if session is not None:
            await session.close()


def _generation(body: dict) -> Generation:
    meta = body["meta_info"]
    pairs = meta.get("output_token_logprobs") or []
    ids, log_probs = [int(p[1]) for p in pairs], [float(p[0]) for p in pairs]
    reason = meta["finish_reason"]["type"]
    if body.get("output_ids") is not None and list(body["output_ids"]) != ids:
        raise ValueError(f"output_ids and output_token_logprobs disagree: {len(body['output_ids'])} and {len(ids)} tokens")
    if reason == "abort":
        raise PolicyAborted(str(meta["finish_reason"].get("message", "aborted")), ids, log_probs)
    if not ids:
        raise ValueError("an answer without tokens")
    return Generation(ids, log_probs, reason, meta)
