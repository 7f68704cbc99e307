"""Client of SGLang's `/generate`: token ids in, sampled ids and their log-probs out.

It has its own limiter, held per request (slime's semaphore counts live episodes, which mostly wait for the user).
Transient trouble is retried with back-off; a request that the server refuses (HTTP 4xx) is not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from slime_tau2.episode import credentials, lookup, usage
from slime_tau2.episode.endpoint import ROUTING_HEADER, Endpoint
from slime_tau2.episode.transport import Transport
from slime_tau2.errors import PolicyAborted, PolicyError
from slime_tau2.ledger import LARGEST
from slime_tau2.limits import Retries

SAMPLE_S = 60.0
MAX_LOG_PROB = 1e-3
"""Rounding may lift a log-prob of 0 a little."""
_json = json.JSONEncoder(separators=(",", ":")).encode
_LOG_PROBS = ("output_token_logprobs", "input_token_logprobs")


@dataclass(frozen=True)
class Generation:
    """One completion.

    Attributes:
        ids: what was sampled, the stop token included.
        log_probs: one per id.
        finish_reason: `stop` or `length`.
        meta: the server's `meta_info` without log-probs.
    """

    ids: list[int]
    log_probs: list[float]
    finish_reason: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """What a server sampled, with its own text of it, and how it read the prompt, where it says so."""

    ids: list[int]
    text: str | None
    prompt_tokens: int | None
    prompt_ids: list[int] | None = None


class PolicyClient:
    """One policy server (or router). Share one client between all episodes of a process.

    Args:
        key_env: the environment variable that was named for this server's key (SGLang's --api-key).

    Raises:
        ConfigError: no URL of a server, or one that conversations would reach in the clear (`plain_http` names hosts
            that may).
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int = 256,
        retries: Retries = Retries(),
        transport: Transport | None = None,
        plain_http: Sequence[str] = (),
        key_env: str | None = None,
    ):
        credentials.check_conversation(url, plain_http)
        self.root, self.key_env = url.rstrip("/"), credentials.variable(url, key_env)
        self.endpoint = Endpoint(
            url=f"{self.root}/generate",
            failure=PolicyError,
            concurrency=concurrency,
            hint=credentials.hint(self.key_env),
            transport=transport,
            spent=lambda answer: usage.add("policy", usage.of_sglang(answer)),
            retries=retries,
        )

    async def generate(
        self,
        ids_json: bytes,
        sampling_params: dict[str, Any],
        routing_key: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Generation:
        """Sample one continuation.

        Args:
            ids_json: the prompt's ids as a JSON list (`TokenLedger.ids_json`, which grows with the episode).
            more: further fields of the request.

        Raises:
            PolicyAborted: the server aborted the request; carries what it had sampled.
            PolicyError: it refused the request, or failed `retries.count` + 1 times.
        """
        params = _json(sampling_params).encode()
        fields = b"".join(b",%b:%b" % (json.dumps(k).encode(), json.dumps(v).encode()) for k, v in (more or {}).items())
        body = b"".join(
            (b'{"input_ids":', ids_json, b',"sampling_params":', params, b',"return_logprob":true', fields, b"}")
        )
        headers = {**self._key(), **({ROUTING_HEADER: routing_key} if routing_key else {})}
        return await self.endpoint.post(lambda attempt: body, _generation, headers)

    async def probe(self, timeout_s: float = 10.0) -> None:
        """Sample one token, now and once.

        Raises:
            PolicyError: that failed; `kind` says how. An abort is no failure: a server that loads weights is there.
        """
        body = b'{"input_ids":[1],"sampling_params":{"max_new_tokens":1,"temperature":0.0},"return_logprob":true}'
        with suppress(PolicyAborted):
            await self.endpoint.once(body, _generation, self._key(), timeout_s)

    async def sample(self, prompt: list[int] | str, tokens: int) -> Sample:
        """Sample at temperature 1, behind ids or behind a text that the server reads itself; once, without a retry."""
        params = {"max_new_tokens": tokens, "temperature": 1.0, "skip_special_tokens": False}
        given = {"text": prompt} if isinstance(prompt, str) else {"input_ids": prompt}
        body = json.dumps({**given, "sampling_params": params, "return_logprob": True}).encode()

        def read(answer: dict[str, Any]) -> Sample:
            generation = _generation(answer)
            return Sample(generation.ids, answer.get("text"), generation.meta.get("prompt_tokens"))

        return await self.endpoint.once(body, read, self._key(), min(self.endpoint.retries.timeout_s, SAMPLE_S))

    async def about(self) -> dict[str, Any]:
        """What the server says it is: server, model_path, tokenizer_path, weight_version, context_length; None where it
        does not say.
        """
        model = await lookup.first([f"{self.root}/model_info", f"{self.root}/get_model_info"], self._key())
        server = await lookup.first([f"{self.root}/server_info", f"{self.root}/get_server_info"], self._key())
        listed = list((await lookup.models(f"{self.root}/v1", self._key())).values())
        lengths = [
            *(m.get("max_model_len") for m in listed[:1]),
            server.get("context_length"),
            server.get("max_total_num_tokens"),
        ]
        return {
            "server": f"SGLang {server.get('version', 'of an unknown version')}",
            **{key: model.get(key, server.get(key)) for key in ("model_path", "tokenizer_path", "weight_version")},
            "context_length": min((n for n in lengths if isinstance(n, int)), default=None),
        }

    async def read(self, prompt: str | list[dict[str, Any]]) -> list[int] | None:
        """The ids that the server makes of a text, or of a conversation by its own chat template; None where it does
        not tell.
        """
        return await tokenized(self.root, prompt, {}, self._key())

    def _key(self) -> dict[str, str]:
        return credentials.headers(self.key_env)

    async def close(self) -> None:
        """Close this event loop's connections."""
        await self.endpoint.close()


async def tokenized(
    root: str, prompt: str | list[dict[str, Any]], fields: Mapping[str, Any], headers: Mapping[str, str]
) -> list[int] | None:
    """What `/tokenize` answers, which SGLang and vLLM have."""
    given = {"prompt": prompt, "add_special_tokens": False} if isinstance(prompt, str) else {"messages": prompt}
    answer = await lookup.json_at(f"{root}/tokenize", headers, body={**fields, **given})
    ids = answer.get("tokens") if isinstance(answer, dict) else None
    return ids if isinstance(ids, list) and all(type(i) is int for i in ids) else None


def check_ids(ids: Sequence[int]) -> None:
    """Raises ValueError where an answer has an id that is none."""
    if ids and (min(ids) < 0 or max(ids) > LARGEST):
        wrong = next(i for i in ids if not 0 <= i <= LARGEST)
        raise ValueError(f"{wrong}, which is no token id, in its answer")


def _generation(answer: dict[str, Any]) -> Generation:
    info = answer["meta_info"]
    pairs = info.get("output_token_logprobs") or []
    ids = list(map(int, [pair[1] for pair in pairs]))
    log_probs = list(map(float, [pair[0] for pair in pairs]))
    reason = info["finish_reason"]["type"]
    meta = {k: v for k, v in info.items() if k not in _LOG_PROBS and v is not None}
    if answer.get("output_ids") is not None and list(answer["output_ids"]) != ids:
        raise ValueError(
            f"output_ids and output_token_logprobs disagree: {len(answer['output_ids'])} and {len(ids)} tokens"
        )
    if not math.isfinite(sum(log_probs)) or max(log_probs, default=0.0) > MAX_LOG_PROB:  # a look at each finds which
        for log_prob in log_probs:
            if not math.isfinite(log_prob) or log_prob > MAX_LOG_PROB:
                raise ValueError(f"{log_prob!r}, which is no log-prob, in its answer")
    check_ids(ids)
    if reason == "abort":
        raise PolicyAborted(str(meta["finish_reason"].get("message", "aborted")), ids, log_probs, meta)
    if not ids:
        raise ValueError("an answer without tokens")
    return Generation(ids, log_probs, reason, meta)
