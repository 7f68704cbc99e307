"""Tokens of a run as its servers reported them, and what they cost by a table of prices.

The table is the user's (YAML or JSON), since prices change: `{model: {prompt: …, cached: …, completion: …}}`, each per
million tokens, in whatever currency; `cached` is optional and else costs as `prompt`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from slime_tau2 import files
from slime_tau2.errors import ConfigError
from slime_tau2.record import AttemptRecord

ROLES = {"policy": "model", "user": "user_model", "judge": "judge_model"}
"""{role: the setting that names its model}"""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What one role took. Floats, since an estimate has fractions."""

    requests: float = 0
    """Requests, those of `unreported` included."""
    prompt: float = 0
    """Tokens sent, those included that the server had in its cache."""
    cached: float = 0
    """Tokens sent that the server had in its cache."""
    completion: float = 0
    """Tokens sampled."""
    unreported: float = 0
    """Requests whose tokens no server counted: the sums are too low by theirs."""

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def __mul__(self, factor: float) -> Tokens:
        return Tokens(**{f.name: getattr(self, f.name) * factor for f in fields(self)})

    def __str__(self) -> str:
        missing = f", {self.unreported:.0f} answers without a count" if self.unreported else ""
        return (
            f"{millions(self.prompt)} tokens sent ({millions(self.cached)} cached), "
            f"{millions(self.completion)} sampled{missing}"
        )


class Price(BaseModel):
    """Per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: float = Field(ge=0)
    cached: float | None = Field(None, ge=0)
    completion: float = Field(ge=0)

    def of(self, tokens: Tokens) -> float:
        cached = self.prompt if self.cached is None else self.cached
        sent = max(tokens.prompt - tokens.cached, 0) * self.prompt + tokens.cached * cached
        return (sent + tokens.completion * self.completion) / 1e6


class _Table(RootModel[dict[str, Price]]):
    pass


def read_prices(path: Path) -> dict[str, Price]:
    """{model: its price}.

    Raises:
        ConfigError: no file, no YAML, or no table of prices; names the entry.
    """
    try:
        return _Table.model_validate(yaml.safe_load(files.read_text(path))).root
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: no YAML: {files.one_line(error)}") from error
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {files.first_error(error)}; write MODEL: {{prompt: 0.4, cached: 0.1, completion: 1.6}}, per "
            "million tokens"
        ) from error


def used(records: Sequence[AttemptRecord]) -> dict[str, Tokens]:
    """{role: tokens} of all attempts, those that infrastructure ended included: they cost, too."""
    out: dict[str, Tokens] = {}
    for record in records:
        for role, counts in record["usage"].items():
            spent = Tokens(
                requests=counts["requests"],
                prompt=counts["prompt"],
                cached=counts["cached"],
                completion=counts["completion"],
                unreported=counts.get("unreported", 0),
            )
            out[role] = out.get(role, Tokens()) + spent
    return out


def lines(spent: Mapping[str, Tokens], settings: Mapping[str, Any], prices: Mapping[str, Price] | None) -> list[str]:
    """A line per role, with its cost where its model has a price, and the sum.

    Raises:
        ConfigError: a model without a price: a sum without it would be too low.
    """
    out, total = [], 0.0
    if prices is not None and not spent:
        raise ConfigError("the records hold no tokens, so that nobody can say what they cost; leave --prices out")
    for role, tokens in spent.items():
        model = model_of(role, settings)
        cost = ""
        if prices is not None:
            if model not in prices:
                raise ConfigError(
                    f"the table of prices has no {model!r}, the {role}'s model; write 0 where it costs nothing"
                )
            total += prices[model].of(tokens)
            cost = f": {prices[model].of(tokens):.2f}"
        out.append(f"{role} ({model}): {tokens}{cost}")
    if prices is not None:
        least = "at least " if any(t.unreported for t in spent.values()) else ""
        out.append(f"in all: {least}{total:.2f} in the currency of the table")
    return out


def model_of(role: str, settings: Mapping[str, Any]) -> str:
    """The name of a role's model in a run with these settings; `served` for an address, which is nobody's to read."""
    name = str(settings.get(ROLES.get(role, "")) or settings.get(role) or role)
    return "served" if name.startswith(("http://", "https://")) else name


def millions(tokens: float) -> str:
    """`21,600`, or `0.22 M`."""
    return f"{tokens:,.0f}" if tokens < 1e5 else f"{tokens / 1e6:.2f} M"
