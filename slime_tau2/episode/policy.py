"""Client of SGLang's `/generate`: token ids in, sampled ids and their log-probs out.

It has its own limiter, held per request (slime's semaphore counts live episodes, which mostly wait for the user).
Transient trouble is retried with back-off; a request that the server refuses (HTTP 4xx) is not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from slime_tau2.episode.endpoint import Endpoint, Transport
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

    def __init__(
        self,
        url: str,
        concurrency: int = 256,
        timeout_s: float = 300.0,
        retries: int = 4,
        backoff_s: float = 0.5,
        transport: Transport | None = None,
    ):
        self.endpoint = Endpoint(
            f"{url.rstrip('/')}/generate", PolicyError, concurrency, timeout_s, retries, backoff_s, transport=transport
        )  # fmt: skip

    async def generate(self, ids_json: bytes, sampling_params: dict[str, Any], routing_key: str | None = None) -> Generation:
        """Sample one continuation.

        Args:
            ids_json: the prompt's ids as a JSON list (`TokenLedger.ids_json`, which grows with the episode).

        Raises:
            PolicyAborted: the server aborted the request; carries what it had sampled.
            PolicyError: it refused the request, or failed `retries` + 1 times.
        """
        params = json.dumps(sampling_params, separators=(",", ":")).encode()
        body = b'{"input_ids":%b,"sampling_params":%b,"return_logprob":true}' % (ids_json, params)
        headers = {"X-SMG-Routing-Key": routing_key} if routing_key else {}
        return await self.endpoint.post(lambda attempt: body, _generation, headers)

    async def close(self) -> None:
        """Close this event loop's connections."""
        await self.endpoint.close()


def _generation(body: dict) -> Generation:
    meta = body["meta_info"]
    pairs = meta.get("output_token_logprobs") or []
    ids, log_probs = [int(p[1]) for p in pairs], [float(p[0]) for p in pairs]
    reason = meta["finish_reason"]["type"]
    if body.get("output_ids") is not None and list(body["output_ids"]) != ids:
        raise ValueError(f"output_ids and output_token_logprobs disagree: {len(body['output_ids'])} and {len(ids)} tokens")
    if reason == "abort":
        raise PolicyAborted(str(meta["finish_reason"].get("message", "aborted")), ids, log_probs, meta.get("weight_version"))
    if not ids:
        raise ValueError("an answer without tokens")
    return Generation(ids, log_probs, reason, meta)
