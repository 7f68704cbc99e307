"""helpdesk's scripted user: says its facts in several ways, follows the agent, and errs sometimes.

Draws come from one seed, so a (task, seed) pair gives one user. Errors, each a thing real users do: leaving the id out,
mistyping it, forgetting to press a toggle, hanging up at the confirmation.
"""

from __future__ import annotations

import random
import re

from slime_tau2.bench import (
    STOP,
    TRANSFER,
    AssistantMessage,
    Delivered,
    Message,
    MultiToolMessage,
    Task,
    ToolCall,
    UserMessage,
)
from slime_tau2.domains.helpdesk.environment import SETTINGS
from slime_tau2.domains.helpdesk.tasks import LINE_IDS, ORDER_IDS, Facts, facts_of

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
LEAVES_ID_OUT = 0.1
MISTYPES_ID = 0.1
FORGETS_TOGGLE = 0.08
HANGS_UP = 0.02
PATIENCE = 4  # replies it did not understand, before it gives up


class ScriptedUser:
    """helpdesk's user simulator (`episode.users.User`): a HelpdeskUser that is handed tau2's messages."""

    def start(self, world: object, task: Task, environment: object, history: list[Message], seed: int) -> None:
        """Who the user is. What it has heard in `history` it remembers; what it said then is said."""
        self.user = HelpdeskUser(facts_of(task), seed)
        for message in history:
            if not isinstance(message, UserMessage):
                self._reply(message)

    async def respond(self, message: Delivered) -> UserMessage:
        """The user's next message."""
        return self._reply(message)

    def _reply(self, message: Delivered) -> UserMessage:
        if isinstance(message, AssistantMessage):
            return self.user.reply(message.content or "", [])
        parts = message.tool_messages if isinstance(message, MultiToolMessage) else [message]
        return self.user.reply("", [part.content or "" for part in parts])


class HelpdeskUser:
    """One user, who says its facts and follows the agent."""

    def __init__(self, facts: Facts, seed: int):
        self.facts = facts
        self.rng = random.Random(f"helpdesk:{facts}:{seed}")
        self.opened = False
        self.changed_mind = False
        self.checking = False
        self.confused = 0
        self.calls = 0

    def reply(self, text: str, results: list[str]) -> UserMessage:
        """The user's next message.

        Args:
            text: the agent's last message.
            results: the user's tool results, when it has just used tools.
        """
        if results:
            return self._after_tools(results)
        return self._to(text.lower())

    def _to(self, text: str) -> UserMessage:
        facts, rng = self.facts, self.rng
        if not self.opened:
            self.opened = True
            return self._opening()
        if "transfer" in text:
            return self._say(TRANSFER)
        if re.search(r"which|find", text):
            return self._say(rng.choice(("It is {id}.", "{id}.")).format(id=facts.ident))
        if "confirm" in text:
            return self._confirm(text)
        if facts.family == "phones" and (wanted := [s for s in SETTINGS if s in text]):
            pressed = [s for s in wanted if rng.random() >= FORGETS_TOGGLE]
            return self._use([("toggle", {"setting": s}) for s in pressed]) if pressed else self._say("Done.")
        if facts.family == "phones" and "check" in text:
            self.checking = True
            return self._use([("check_phone", {})])
        if re.search(r"done|final sale|fixed|sorry", text):
            return self._say(rng.choice(("Thanks, bye. ", "Great. ")) + STOP)
        self.confused += 1
        return self._say(STOP) if self.confused >= PATIENCE else self._say(rng.choice(("What?", "I do not follow.")))

    def _opening(self) -> UserMessage:
        facts, draw = self.facts, self.rng.random()
        if draw < LEAVES_ID_OUT:
            return self._say(WITHOUT_ID[facts.family].format(item=facts.item))
        ident = facts.ident
        if draw < LEAVES_ID_OUT + MISTYPES_ID:
            pool = LINE_IDS if facts.family == "phones" else ORDER_IDS
            ident = self.rng.choice([i for i in pool if i != ident])
        return self._say(self.rng.choice(OPENINGS[facts.family]).format(id=ident, item=facts.item))

    def _confirm(self, text: str) -> UserMessage:
        facts = self.facts
        if facts.second_item and not self.changed_mind:
            self.changed_mind = True
            return self._say(
                self.rng.choice(("No, make it {item}.", "Wait, {item} is better.")).format(item=facts.second_item)
            )
        if self.rng.random() < HANGS_UP:
            return self._say(f"Yes, bye. {STOP}")
        if facts.family == "orders" and "return" not in text and (facts.second_item or facts.item) not in text:
            return self._say(f"No, {facts.second_item or facts.item}.")
        return self._say(self.rng.choice(("Yes.", "Yes please.", "I confirm.")))

    def _after_tools(self, results: list[str]) -> UserMessage:
        if not self.checking:
            return self._say("Done.")
        self.checking = False
        seen = dict(re.findall(r'"(\w+)": "(\w+)"', results[-1]))
        signal = seen.get("signal") == "ok"
        if signal and all(seen.get(k) == v for k, v in SETTINGS.items()):
            return self._say(f"It works, thanks. {STOP}")
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
