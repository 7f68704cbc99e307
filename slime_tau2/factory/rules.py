"""The rules of a policy as named predicates on the database and the scenario."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Finding:
    """Whether one rule of the policy holds for one wish."""

    rule: str
    holds: bool


@dataclass(frozen=True)
class Rule:
    """One rule of a domain's policy.

    Attributes:
        name: its identifier, as the coverage table has it.
        section: the heading of the policy that it stands under.
        says: the rule in our words.
    """

    name: str
    section: str
    says: str

    def __call__(self, holds: bool) -> Finding:
        """The finding that this rule holds, or does not."""
        return Finding(self.name, holds)


class Rulebook:
    """The rules of a domain, each a named predicate on the database and the scenario.

    `rule` decorates a predicate; calling the result gives a Finding instead of a bool.
    """

    def __init__(self) -> None:
        self.rules: dict[str, Rule] = {}

    def rule(self, section: str, says: str) -> Callable[[Callable[Arguments, bool]], Callable[Arguments, Finding]]:
        """Makes a rule of a predicate, under the predicate's name."""

        def named(predicate: Callable[Arguments, bool]) -> Callable[Arguments, Finding]:
            rule = self.rules[predicate.__name__] = Rule(predicate.__name__, section, says)

            def find(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Finding:
                return rule(predicate(*args, **kwargs))

            return find

        return named
