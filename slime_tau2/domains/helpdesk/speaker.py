"""What helpdesk's scripted users have in common: their words, their phone, their patience."""

from __future__ import annotations

import random
import re

from slime_tau2.bench import STOP, ToolCall, UserMessage
from slime_tau2.domains.helpdesk.environment import SETTINGS

OPENINGS = {
    "orders": ("Please swap {id} to {item}.", "Can you change {id} to {item}?", "I want {item} instead in {id}."),
    "refunds": ("Please refund {id}.", "I want my money back for {id}.", "Can I get a refund on {id}?"),
    "phones": ("No internet on {id}.", "My phone {id} is offline.", "Line {id} does not work."),
}
WITHOUT_ID = {
    "orders": "Please swap my order to {item}.",
    "refunds": "I want a refund.",
    "phones": "My phone is offline.",
}
FORGETS_TOGGLE = 0.08
PATIENCE = 4
"""Replies that a user did not understand, before it gives up."""


class Speaker:
    """What every user does with its words and its phone."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.checking = False
        self.confused = 0
        self.calls = 0

    def reply(self, text: str, results: list[str]) -> UserMessage:
        """The user's next message.

        Args:
            text: the agent's last message.
            results: the user's tool results, when it has just used tools.
        """
        return self._after_tools(results) if results else self._to(text)

    def _to(self, text: str) -> UserMessage:
        """What the user says to an agent's message."""
        raise NotImplementedError

    def _online(self) -> UserMessage:
        """What the user says when its phone works."""
        raise NotImplementedError

    def _at_phone(self, said: str) -> UserMessage | None:
        """What the user does with its phone when an agent's message, in small letters, asks it to; else None."""
        if wanted := [setting for setting in SETTINGS if setting in said]:
            pressed = [setting for setting in wanted if self.rng.random() >= FORGETS_TOGGLE]
            return self._use([("toggle", {"setting": s}) for s in pressed]) if pressed else self._say("Done.")
        if "check" in said:
            self.checking = True
            return self._use([("check_phone", {})])
        return None

    def _confusion(self) -> UserMessage:
        """What the user says to what it does not understand."""
        self.confused += 1
        return self._say(STOP if self.confused >= PATIENCE else self.rng.choice(("What?", "I do not follow.")))

    def _after_tools(self, results: list[str]) -> UserMessage:
        if not self.checking:
            return self._say("Done.")
        self.checking = False
        seen = dict(re.findall(r'"(\w+)": "(\w+)"', results[-1]))
        signal = seen.get("signal") == "ok"
        if signal and all(seen.get(k) == v for k, v in SETTINGS.items()):
            return self._online()
        report = ", ".join(f"{k} {seen.get(k)}" for k in SETTINGS)
        return self._say(f"{report}." if signal else f"{report}, no signal.")

    def _use(self, calls: list[tuple[str, dict[str, str]]]) -> UserMessage:
        tool_calls = []
        for name, arguments in calls:
            self.calls += 1
            tool_calls.append(ToolCall(id=f"user_{self.calls}", name=name, arguments=arguments, requestor="user"))
        return UserMessage(role="user", content=None, tool_calls=tool_calls, cost=0.0)

    def _say(self, text: str) -> UserMessage:
        return UserMessage(role="user", content=text, cost=0.0)
