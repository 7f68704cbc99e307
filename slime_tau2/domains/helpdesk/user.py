"""helpdesk's scripted user: says its facts in several ways, follows the agent, and errs sometimes.

Draws come from one seed, so a (task, seed) pair gives one user. Errors, each a thing real users do: leaving the id out,
mistyping it, forgetting to press a toggle, hanging up at the confirmation.
"""

from __future__ import annotations

import random
import re

from slime_tau2.bench import (
    GREETING,
    STOP,
    TRANSFER,
    AssistantMessage,
    Delivered,
    Message,
    MultiToolMessage,
    Task,
    UserMessage,
)
from slime_tau2.domains.helpdesk import cases
from slime_tau2.domains.helpdesk.case_user import CaseUser
from slime_tau2.domains.helpdesk.speaker import OPENINGS, WITHOUT_ID, Speaker
from slime_tau2.domains.helpdesk.tasks import LINE_IDS, ORDER_IDS, Facts, facts_of

LEAVES_ID_OUT = 0.1
MISTYPES_ID = 0.1
HANGS_UP = 0.02


class ScriptedUser:
    """helpdesk's user simulator (`episode.users.User`): a HelpdeskUser that is handed tau2's messages."""

    def start(self, world: object, task: Task, environment: object, history: list[Message], seed: int) -> None:
        """Who the user is. What it has heard in `history` it remembers; what it said then is said."""
        case = cases.read(task)
        self.user: Speaker = HelpdeskUser(facts_of(task), seed) if case is None else CaseUser(*case, seed)
        if history and isinstance(history[0], UserMessage):
            self.user.reply(GREETING, [])  # which it has answered, and which no prefix holds
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


class HelpdeskUser(Speaker):
    """One user, who says its facts and follows the agent."""

    def __init__(self, facts: Facts, seed: int):
        super().__init__(random.Random(f"helpdesk:{facts}:{seed}"))
        self.facts = facts
        self.opened = False
        self.changed_mind = False

    def _to(self, text: str) -> UserMessage:
        facts, rng, text = self.facts, self.rng, text.lower()
        if not self.opened:
            self.opened = True
            return self._opening()
        if "transfer" in text:
            return self._say(TRANSFER)
        if re.search(r"which|find", text):
            return self._say(rng.choice(("It is {id}.", "{id}.")).format(id=facts.ident))
        if "confirm" in text:
            return self._confirm(text)
        if facts.family == "phones" and (done := self._at_phone(text)) is not None:
            return done
        if re.search(r"done|final sale|fixed|sorry", text):
            return self._say(rng.choice(("Thanks, bye. ", "Great. ")) + STOP)
        return self._confusion()

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

    def _online(self) -> UserMessage:
        return self._say(f"It works, thanks. {STOP}")
