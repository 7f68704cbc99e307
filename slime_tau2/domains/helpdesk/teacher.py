"""The scripted teacher whose traces the SFT stage learns from. It errs as real teachers do.

With `flaws=0` it is the expert: it follows the policy and solves every task whose user does not hang up. With flaws,
each habit below strikes an episode with its own probability, and the traces keep whatever came of it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator

from slime_tau2.bench import AssistantMessage, ToolCall
from slime_tau2.domains.helpdesk.environment import SETTINGS

HABITS = {
    "writes without confirmation": 0.45,
    "ignores the tier": 0.35,
    "refunds final sales": 0.35,
    "does not tell the amount": 0.25,
    "does not look at the line": 0.35,
    "forgets a toggle": 0.35,
    "does not check again": 0.3,
    "returns instead of swapping": 0.1,
}
"""{habit: its probability at flaws=1}"""
IDENT = re.compile(r"\b[WL]\d\d\b")
Step = Generator[AssistantMessage, tuple[str, bool], None]


class Teacher:
    """`act(text, is_error)` takes what the agent has just read and returns what it says or does next."""

    def __init__(self, seed: int, flaws: float = 0.0):
        rng = random.Random(f"teacher:{seed}")
        self.habits = {habit for habit, p in HABITS.items() if rng.random() < p * flaws}
        self.rng = rng
        self.calls = 0
        self.script: Step | None = None

    def act(self, text: str, is_error: bool) -> AssistantMessage:
        """Args: text: the user's last words, or the result of the last call; is_error: whether that is an error."""
        if self.script is None:
            self.script = self._serve(text)
            return next(self.script)
        try:
            return self.script.send((text, is_error))
        except StopIteration:
            return self._say("Sorry, that is all I can do.")

    def _say(self, text: str) -> AssistantMessage:
        return AssistantMessage(role="assistant", content=text, cost=0.0)

    def _call(self, name: str, **arguments: str) -> AssistantMessage:
        self.calls += 1
        call = ToolCall(id=f"call_{self.calls}", name=name, arguments=arguments)
        return AssistantMessage(role="assistant", content=None, tool_calls=[call], cost=0.0)

    def _serve(self, opening: str) -> Step:
        phones = bool(re.search(r"internet|phone|line", opening.lower()))
        noun = "line" if phones else "order"
        text = opening
        while not (found := IDENT.search(text)):
            text, _ = yield self._say(f"Which {noun}?")
        ident = found[0]
        if not (phones and "does not look at the line" in self.habits):
            while True:
                result, error = yield self._call("get_line" if phones else "get_order", **{f"{noun}_id": ident})
                if not error:
                    break
                text, _ = yield self._say(f"I cannot find {ident}. Which {noun}?")
                ident = found[0] if (found := IDENT.search(text)) else ident
        else:
            result = ""
        fields = dict(re.findall(r'"(\w+)": "([^"]*)"', result))
        if phones:
            yield from self._phones(ident, fields)
        elif re.search(r"refund|money", opening.lower()):
            yield from self._refund(ident, fields)
        else:
            yield from self._swap(ident, opening, fields)

    def _swap(self, ident: str, opening: str, order: dict[str, str]) -> Step:
        item = _word(r"to (\w+)|want (\w+)", opening)
        unasked = "writes without confirmation" in self.habits
        if order["status"] == "shipped" or "returns instead of swapping" in self.habits:
            if not unasked:
                yield self._say(f"{ident} has shipped. Return it? Please confirm.")
            yield self._call("book_return", order_id=ident)
            yield self._say("Done, return booked.")
            return
        while not unasked:
            text, _ = yield self._say(f"Swap {ident} to {item}? Please confirm.")
            if re.search(r"yes|confirm", text.lower()):
                break
            item = _word(r"(?:make it|wait,|no,) (?!make )(\w+)", text.lower())
        yield self._call("swap_item", order_id=ident, item=item)
        yield self._say("Done, swapped.")

    def _refund(self, ident: str, order: dict[str, str]) -> Step:
        if order["seal"] == "final" and "refunds final sales" not in self.habits:
            yield self._call("deny_refund", order_id=ident, reason="final sale")
            yield self._say(f"Sorry, {ident} is final sale.")
            return
        gold = order["tier"] == "gold" and "ignores the tier" not in self.habits
        amount = order["full"] if order["seal"] == "sealed" or gold else order["half"]
        if "does not tell the amount" in self.habits:
            yield self._say(f"Refund {ident}? Please confirm.")
        else:
            yield self._say(f"The refund for {ident} is {amount}. Please confirm.")
        yield self._call("refund", order_id=ident, amount=amount)
        yield self._say("Done, refunded.")

    def _phones(self, ident: str, line: dict[str, str]) -> Step:
        if line.get("status") == "suspended":
            yield self._call("resume_line", line_id=ident)
        while True:
            text, _ = yield self._say("Please check the phone.")
            wrong = [
                s for s, right in SETTINGS.items() if re.search(rf"{s} (on|off)", text) and f"{s} {right}" not in text
            ]
            if len(wrong) > 1 and "forgets a toggle" in self.habits:
                wrong.remove(self.rng.choice(wrong))
            if "no signal" in text and not wrong:
                yield self._call("resume_line", line_id=ident)
                continue
            yield self._say(f"Please toggle {', '.join(wrong)}.")
            if "does not check again" in self.habits:
                yield self._say("Done, fixed.")


def _word(pattern: str, text: str) -> str:
    """What the pattern's group caught; an empty word when nothing did (the user then says so)."""
    found = re.search(pattern, text)
    return next((g for g in found.groups() if g), "") if found else ""
