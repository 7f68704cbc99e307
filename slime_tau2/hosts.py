"""What an option can say of the host of a model that is not ours: how it is asked, and what it wants beside a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, field_validator


class Host(BaseModel):
    """One entry of `hosts`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    client: Literal["auto", "openai", "own"] = "auto"
    """Who asks: the `openai` package, which knows proxies, or our own client; `auto` is the package at OpenAI's hosts
    and Azure.
    """
    headers_env: str | None = None
    """Environment variable with further headers: a JSON object of names and values."""
    token: str | None = None
    """`module:function` (or async) that returns a bearer token, asked before each request: Entra, or a gateway's own
    refresh.
    """
    api_version: str | None = None
    """Azure's api-version; the model's name is then that of the deployment. Not needed where the URL ends with
    /openai/v1.
    """

    @field_validator("api_version", mode="before")
    @classmethod
    def _a_versions_name(cls, value: object) -> object:
        return value.isoformat() if isinstance(value, date) else value  # YAML takes 2024-10-21 for a date


@dataclass(frozen=True)
class Access:
    """What the configuration says of hosts."""

    hosts: Mapping[str, Host] = field(default_factory=dict)
    plain_http: tuple[str, ...] = ()

    def named(self, url: str) -> Host | None:
        """The entry of a URL's host, with its port or without."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        return self.hosts.get(f"{host}:{parts.port}") or self.hosts.get(host)


NOTHING_SAID = Access()
