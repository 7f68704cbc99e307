"""How a chat server is asked: its address, the headers of a request, and whether the `openai` package sends it.

The package is used where a model is hosted: at OpenAI's hosts and Azure, and where `hosts` says so. It knows proxies
(HTTPS_PROXY) and is kept up by those who serve. It is a transport and no more: retries, time-outs, faults and records
are `endpoint.py`'s for both. What it reads from its own environment (organisation, project, OPENAI_CUSTOM_HEADERS) goes
to OpenAI's own hosts only: another sees what an option names.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from slime_tau2 import plugins
from slime_tau2.episode import credentials
from slime_tau2.episode.transport import AiohttpTransport, Connection, Response, Unreachable, redirected, seconds
from slime_tau2.errors import ConfigError
from slime_tau2.hosts import Access, Host


@dataclass(frozen=True)
class Server:
    """One model of one chat server. `variable` holds its key; None where it gets none."""

    base_url: str
    model: str
    variable: str | None
    host: Host

    @classmethod
    def of(cls, base_url: str, model: str, key_env: str | None, access: Access) -> Server:
        """
        Args:
            key_env: the variable that was named for this server's key; None is `credentials.variable`'s own answer.

        Raises:
            ConfigError: no URL of a server; one to which a key or a conversation would go in the clear; Azure without
                its version; or what `hosts` names is not there.
        """
        variable = credentials.variable(base_url, key_env)
        base_url, host = base_url.rstrip("/"), access.named(base_url) or Host()
        credentials.check_conversation(base_url, access.plain_http)
        for secret in filter(None, (host.headers_env, host.token)):
            credentials.variable(base_url, secret)
        if host.token is not None:
            plugins.load(host.token, "tau2_hosts")
        server = cls(base_url, model, variable, host)
        server._named_headers()
        if credentials.is_azure(base_url) and host.api_version is None and not base_url.endswith("/openai/v1"):
            where = credentials.parsed(base_url).hostname
            raise ConfigError(
                f"{base_url} is Azure's: write https://{where}/openai/v1, or name the version of the older address "
                f"with hosts={{{where}: {{api_version: 2024-10-21}}}}"
            )
        return server

    @property
    def by_package(self) -> bool:
        return self.host.client == "openai" or (self.host.client == "auto" and credentials.is_openai(self.base_url))

    @property
    def root(self) -> str:
        """What `/chat/completions` follows; Azure's older address has the deployment in it."""
        if self.host.api_version is None:
            return self.base_url
        return f"{self.base_url.removesuffix('/openai')}/openai/deployments/{quote(self.model, safe='')}"

    @property
    def query(self) -> dict[str, str]:
        return {} if self.host.api_version is None else {"api-version": self.host.api_version}

    @property
    def url(self) -> str:
        return f"{self.root}/chat/completions" + "".join(f"?{k}={quote(v, safe='')}" for k, v in self.query.items())

    def connect(self) -> Connection:
        """A transport of the running event loop."""
        return OpenAITransport(self) if self.by_package else AiohttpTransport()

    async def headers(self) -> dict[str, str]:
        """The headers of one request, read from the environment now and kept nowhere (invariant 8).

        Raises:
            RuntimeError: there is no token.
        """
        if self.host.token is not None:
            key = {"Authorization": f"Bearer {await _token(self.host.token)}"}
        else:
            key = credentials.headers(self.variable)
            if key and (self.host.api_version is not None or credentials.is_azure(self.base_url)):
                key = {"api-key": key["Authorization"].removeprefix("Bearer ")}
        return {**key, **self._named_headers()}

    def _named_headers(self) -> dict[str, str]:
        name = self.host.headers_env
        if name is None:
            return {}
        try:
            headers = json.loads(os.environ[name])
            if isinstance(headers, dict) and all(isinstance(v, str) for v in headers.values()):
                return headers
        except (KeyError, ValueError):
            pass
        raise ConfigError(f'{self.base_url}: set {name} to its headers, a JSON object such as {{"X-Team": "…"}}')


class OpenAITransport:
    """The `openai` package, for one server and one event loop."""

    def __init__(self, server: Server):
        import openai  # a second and more: only where it is used

        self._openai = openai
        http = openai.DefaultAsyncHttpxClient(follow_redirects=False)
        self._client = openai.AsyncOpenAI(
            api_key="named by each request",
            base_url=server.root,
            default_query=server.query,
            max_retries=0,
            timeout=None,
            http_client=http,
        )
        if not credentials.is_openai(server.base_url) or credentials.is_azure(server.base_url):
            self._client.organization = self._client.project = None
            self._client._custom_headers = {}

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        fields: dict[str, Any] = json.loads(body)
        model = fields.pop("model")
        sent: dict[str, Any] = {"Authorization": self._openai.Omit(), **headers}
        try:
            raw = await self._client.chat.completions.with_raw_response.create(
                model=model, messages=[], extra_body=fields, extra_headers=sent
            )  # in `extra_body` the messages are sent as they are: as an argument each would be walked by its type
            answer: Any = raw.http_response
        except self._openai.APIStatusError as error:
            answer = error.response
        except self._openai.APIConnectionError as error:
            cause = error.__cause__
            kind = Unreachable if type(cause).__name__ == "ConnectError" else ConnectionError
            raise kind(f"{type(cause).__name__}: {cause}") from error
        moved = redirected(answer.status_code, answer.headers.get("Location"))
        return moved or Response(answer.status_code, answer.content, seconds(answer.headers.get("Retry-After")))

    async def close(self) -> None:
        await self._client.close()


async def _token(path: str) -> str:
    provide = plugins.load(path, "tau2_hosts")
    try:  # one that is not async may fetch a new one, and block while it does
        token = await provide() if inspect.iscoroutinefunction(provide) else await asyncio.to_thread(provide)
    except Exception as error:
        raise RuntimeError(f"{path} gave no token: {type(error).__name__}: {error}") from error
    if not isinstance(token, str) or not token:
        raise RuntimeError(f"{path} gave no token but {type(token).__name__}")
    return token
