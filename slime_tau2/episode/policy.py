"""Client of SGLang's `/generate`: token ids in, sampled ids and their log-probs out.

It has its own limiter, held per request (slime's semaphore counts live episodes, which mostly wait for the user).
Transient trouble is retried with back-off; a request that the server refuses (HTTP 4xx) is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from slime_tau2.episode import usage
from slime_tau2.episode.endpoint import ROUTING_HEADER, Endpoint, Transport
from slime_tau2.errors import PolicyAborted, PolicyError

_LOG_PROBS = ("output_token_logprobs", "input_token_logprobs")


@dataclass(frozen=True)
class Generation:
    """One completion. `finish_reason` is stop or length; `ids` include the sampled stop token; `meta` is `meta_info` without log-probs."""

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
            f"{url.rstrip('/')}/generate", PolicyError, concurrency, timeout_s, retries, backoff_s, transport=transport,
            spent=lambda answer: usage.add("policy", usage.of_sglang(answer)),
        )  # fmt: skip

    async def generate(
        self, ids_json: bytes, sampling_params: dict[str, Any], routing_key: str | None = None, more: Mapping[str, Any] | None = None
    ) -> Generation:
        """Sample one continuation.

        Args:
            ids_json: the prompt's ids as a JSON list (`TokenLedger.ids_json`, which grows with the episode).
            more: further fields of the request.

        Raises:
            PolicyAborted: the server aborted the request; carries what it had sampled.
            PolicyError: it refused the request, or failed `retries` + 1 times.
        """
        params = json.dumps(sampling_params, separators=(",", ":")).encode()
        fields = b"".join(b",%b:%b" % (json.dumps(k).encode(), json.dumps(v).encode()) for k, v in (more or {}).items())
        body = b'{"input_ids":%b,"sampling_params":%b,"return_logprob":true%b}' % (ids_json, params, fields)
        headers = {ROUTING_HEADER: routing_key} if routing_key else {}
        return await self.endpoint.post(lambda attempt: body, _generation, headers)

    async def probe(self, timeout_s: float = 10.0) -> None:
        """Sample one token, now and once.

        Raises:
            PolicyError: that failed; `kind` says how. An abort is no failure: a server that loads weights is there.
        """
        body = b'{"input_ids":[1],"sampling_params":{"max_new_tokens":1,"temperature":0.0},"return_logprob":true}'
        with suppress(PolicyAborted):
            await self.endpoint.once(body, _generation, {}, timeout_s)

    async def close(self) -> None:
        """Close this event loop's connections."""
        await self.endpoint.close()


def _generation(body: dict) -> Generation:
    told = body["meta_info"]
    pairs = told.get("output_token_logprobs") or []
    ids, log_probs = [int(p[1]) for p in pairs], [float(p[0]) for p in pairs]
    reason = told["finish_reason"]["type"]
    meta = {k: v for k, v in told.items() if k not in _LOG_PROBS and v is not None}
    if body.get("output_ids") is not None and list(body["output_ids"]) != ids:
        raise ValueError(f"output_ids and output_token_logprobs disagree: {len(body['output_ids'])} and {len(ids)} tokens")
    if reason == "abort":
        raise PolicyAborted(str(meta["finish_reason"].get("message", "aborted")), ids, log_probs, meta)
    if not ids:
        raise ValueError("an answer without tokens")
    return Generation(ids, log_probs, reason, meta)
