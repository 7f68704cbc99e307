"""vLLM as an exact policy: `/v1/completions`, token ids in, sampled ids and their log-probs out, as `PolicyClient` does
it on SGLang.

Any server whose answers hold `token_ids` will do: vLLM since 0.10.2, and SGLang's own `/v1/completions` since it has
them. The token that ends a turn is among the ids, with its log-prob. vLLM ignores fields it does not know and takes
sampling parameters that a request leaves out from the model's generation_config.json: unknown ones are refused here,
and every one is sent.

The log-probs are the server's: of the model itself, before temperature, top-k and top-p, unless it runs with
`--logprobs-mode processed_logprobs`. (SGLang's are after temperature.) At temperature 1 without top-k and top-p the
three are the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from slime_tau2.episode import credentials, lookup, usage
from slime_tau2.episode.endpoint import ROUTING_HEADER, Endpoint
from slime_tau2.episode.policy import MAX_LOG_PROB, SAMPLE_S, Generation, PolicyClient, Sample, check_ids, tokenized
from slime_tau2.episode.transport import Transport
from slime_tau2.errors import ConfigError, InfrastructureError, PolicyAborted, PolicyError
from slime_tau2.limits import Retries

NAMES = {
    "max_new_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "sampling_seed": "seed",
    **{
        name: name
        for name in (
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repetition_penalty",
            "presence_penalty",
            "frequency_penalty",
            "stop_token_ids",
            "ignore_eos",
        )
    },
}
"""{SGLang's name of a sampling parameter: vLLM's}."""
OF_THE_TEXT = {"skip_special_tokens", "spaces_between_special_tokens", "no_stop_trim"}
"""SGLang's parameters that change the text of an answer and not its ids."""
DEFAULTS = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
NO_IDS = (
    "it answers without token ids: exact tokens need vLLM 0.10.2 or newer (an SGLang server: give its URL without /v1)"
)


class VLLMClient(PolicyClient):
    """One OpenAI-compatible server that returns token ids, and one model of it.

    Args:
        base_url: it ends with /v1.
        key_env: the environment variable that was named for this server's key.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key_env: str | None = None,
        concurrency: int = 256,
        retries: Retries = Retries(),
        transport: Transport | None = None,
        plain_http: Sequence[str] = (),
    ):
        credentials.check_conversation(base_url, plain_http)
        self.base_url, self.model, self.key_env = base_url.rstrip("/"), model, credentials.variable(base_url, key_env)
        self.root = self.base_url.removesuffix("/v1")
        self.endpoint = Endpoint(
            url=f"{self.base_url}/completions",
            failure=lambda message: PolicyError(f"{model}: {message}"),
            concurrency=concurrency,
            hint=credentials.hint(self.key_env),
            spent=lambda answer: usage.add("policy", usage.of_openai(answer)),
            transport=transport,
            retries=retries,
        )

    async def generate(
        self,
        ids_json: bytes,
        sampling_params: dict[str, Any],
        routing_key: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Generation:
        """Sample one continuation, as `PolicyClient.generate`; `sampling_params` have SGLang's names.

        Raises:
            ConfigError: a parameter, or a further field, that vLLM has no name for.
            PolicyAborted: the server aborted the request; carries what it had sampled.
            PolicyError: it refused the request, failed `retries.count` + 1 times, or answers without token ids.
        """
        if more:
            raise ConfigError(
                f"vLLM's /v1/completions has no {', '.join(more)}; leave it out, or serve the policy with SGLang"
            )
        body = self._body(ids_json, _translated(sampling_params))
        headers = credentials.headers(self.key_env)
        if routing_key and credentials.is_ours(self.base_url):
            headers[ROUTING_HEADER] = routing_key

        def read(answer: dict[str, Any]) -> Generation:
            return self._generation(answer, ids_json)

        return await self.endpoint.post(lambda attempt: body, read, headers)

    async def probe(self, timeout_s: float = 10.0) -> None:
        body = self._body(b"[1]", {**DEFAULTS, "max_tokens": 1})
        with suppress(PolicyAborted):
            await self.endpoint.once(
                body, lambda answer: self._generation(answer, b"[1]"), credentials.headers(self.key_env), timeout_s
            )

    async def sample(self, prompt: list[int] | str, tokens: int) -> Sample:
        params = {**DEFAULTS, "max_tokens": tokens, "add_special_tokens": False, "skip_special_tokens": False}
        body = self._body(json.dumps(prompt).encode(), params)

        def read(answer: dict[str, Any]) -> Sample:
            choice = answer["choices"][0]
            return Sample(
                self._generation(answer, None).ids,
                choice["text"],
                answer["usage"]["prompt_tokens"],
                choice.get("prompt_token_ids"),
            )

        return await self.endpoint.once(
            body, read, credentials.headers(self.key_env), min(self.endpoint.retries.timeout_s, SAMPLE_S)
        )

    async def headers(self) -> dict[str, str]:
        """The headers of one request."""
        return credentials.headers(self.key_env)

    async def about(self) -> dict[str, Any]:
        headers = credentials.headers(self.key_env)
        model = (await lookup.models(self.base_url, headers)).get(self.model, {})
        version = (await lookup.first([f"{self.root}/version"], headers)).get("version")
        return {
            "server": f"vLLM {version}" if version else "OpenAI-compatible",
            "model_path": model.get("root"),
            "tokenizer_path": None,
            "weight_version": None,
            "context_length": model.get("max_model_len"),
        }

    async def read(self, prompt: str | list[dict[str, Any]]) -> list[int] | None:
        return await tokenized(self.root, prompt, {"model": self.model}, credentials.headers(self.key_env))

    def _body(self, prompt: bytes, params: dict[str, Any]) -> bytes:
        fields = json.dumps(
            {"model": self.model, **params, "logprobs": 0, "return_token_ids": True}, separators=(",", ":")
        ).encode()
        return b"".join((fields[:-1], b',"prompt":', prompt, b"}"))

    def _generation(self, answer: dict[str, Any], sent: bytes | None) -> Generation:
        """What an answer says; `sent` is the prompt's JSON, which it must have read (None: the prompt was a text)."""
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        ids = choice.get("token_ids")
        if ids is None:
            raise self._unusable(NO_IDS)
        log_probs = [float(p) for p in (choice.get("logprobs") or {}).get("token_logprobs") or []]
        if len(log_probs) != len(ids):
            raise ValueError(f"{len(ids)} token ids with {len(log_probs)} log-probs")
        if any(math.isnan(p) or p == -math.inf for p in log_probs):
            raise ValueError("a log-prob that is no number, in its answer")
        check_ids(ids)
        if any(p > MAX_LOG_PROB for p in log_probs):
            raise self._unusable(
                "it answers with logits where log-probs are asked for: start vLLM without --logprobs-mode, or "
                "with raw_logprobs"
            )
        read = choice.get("prompt_token_ids")
        if sent is not None and read is not None and json.dumps(read, separators=(",", ":")).encode() != sent:
            raise self._unusable(
                f"it read another prompt than it was sent: {len(read)} tokens, and {sent.count(b',') + 1} were sent"
            )
        reason, cached = choice["finish_reason"], (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        meta = {
            "finish_reason": {"type": reason, "matched": choice.get("stop_reason")},
            "prompt_tokens": usage.get("prompt_tokens"),
            "completion_tokens": usage.get("completion_tokens"),
            **({} if cached is None else {"cached_tokens": cached}),
        }
        if reason == "abort":
            raise PolicyAborted("aborted", ids, log_probs, meta)
        if reason not in ("stop", "length"):
            raise ValueError(f"finish_reason {reason!r}")
        if not ids:
            raise ValueError("an answer without tokens")
        return Generation(ids, log_probs, reason, meta)

    def _unusable(self, why: str) -> InfrastructureError:
        return self.endpoint.failure(f"{self.endpoint.url}: {why}")


def _translated(params: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in params if name not in NAMES and name not in OF_THE_TEXT]
    if unknown:
        raise ConfigError(
            f"sampling parameter {', '.join(sorted(unknown))} is none that vLLM is asked for; there are "
            f"{', '.join(NAMES)}"
        )
    return {**DEFAULTS, **{NAMES[name]: value for name, value in params.items() if name in NAMES and value is not None}}
