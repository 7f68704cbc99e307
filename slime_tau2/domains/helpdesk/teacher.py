"""The scripted teacher whose traces the SFT stage learns from. It errs as real teachers do.

With `flaws=0` it is the expert: it follows the policy and solves every task whose user does not hang up. With flaws,
each habit below strikes with its own probability, request by request, and the traces keep whatever came of it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Sequence

from slime_tau2.bench import AssistantMessage, ToolCall
from slime_tau2.domains.helpdesk.asked import IDENT, Asked, asked
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
Call = tuple[str, dict[str, str]]
"""(tool, arguments)"""
Step = Generator[AssistantMessage, tuple[str, bool], str]
"""What the teacher says and does until something is settled, or not; then what the user says to it."""


class Teacher:
    """`act(text, is_error)` takes what the agent has just read and returns what it says or does next."""

    def __init__(self, seed: int, flaws: float = 0.0):
        self.rng = random.Random(f"teacher:{seed}")
        self.flaws = flaws
        self.habits = self._drawn()
        self.seen: dict[str, dict[str, str]] = {}
        """{order or line: what a look-up has shown}; an order's item is kept up to date."""
        self.first_items: dict[str, str] = {}
        """{order: its item when it was first looked up}"""
        self.last = ""
        """The order or line that was spoken of last."""
        self.calls = 0
        self.script: Generator[AssistantMessage, tuple[str, bool], None] | None = None

    def act(self, text: str, is_error: bool) -> AssistantMessage:
        """Args: text: the user's last words, or the result of the last call; is_error: whether that is an error."""
        try:
            if self.script is None:
                self.script = self._serve(text)
                return next(self.script)
            return self.script.send((text, is_error))
        except StopIteration:
            return self._say("Sorry, that is all I can do.")

    def _drawn(self) -> set[str]:
        return {habit for habit, p in HABITS.items() if self.rng.random() < p * self.flaws}

    def _say(self, text: str) -> AssistantMessage:
        return AssistantMessage(role="assistant", content=text, cost=0.0)

    def _call(self, *calls: Call) -> AssistantMessage:
        made = []
        for name, arguments in calls:
            self.calls += 1
            made.append(ToolCall(id=f"call_{self.calls}", name=name, arguments=arguments))
        return AssistantMessage(role="assistant", content=None, tool_calls=made, cost=0.0)

    def _serve(self, opening: str) -> Generator[AssistantMessage, tuple[str, bool], None]:
        text = opening
        while requests := asked(text):
            phones = [request for request in requests if request.kind == "phone"]
            orders = [request for request in requests if request.kind != "phone"]
            if orders:
                text = yield from self._orders(orders)
            for request in phones:
                text = yield from self._phone(request)
            self.habits = self._drawn()

    # which order, which line

    def _named(self, words: str) -> str:
        """The order or line that a user's words name; "" if they name none that is known."""
        if found := IDENT.search(words):
            return found[0]
        if by_item := re.search(r"the (\w+) order", words):
            return next((ident for ident, order in self.seen.items() if order.get("item") == by_item[1]), "")
        return self.last if words in ("it", "the same order") else ""

    def _look_up(self, idents: Sequence[str]) -> Generator[AssistantMessage, tuple[str, bool], list[str]]:
        """Looks up what was not seen yet, in one turn; returns what there is, by the ids that turn out to be right."""
        found = list(idents)
        while unseen := [ident for ident in dict.fromkeys(found) if ident not in self.seen]:
            text, error = yield self._call(*map(_look, unseen))
            results = text.split("\n") if len(unseen) > 1 else [text]
            wrong = [ident for ident, result in zip(unseen, results, strict=True) if error and "not found" in result]
            for ident, result in zip(unseen, results, strict=True):
                if ident not in wrong:
                    self.seen[ident] = dict(re.findall(r'"(\w+)": "([^"]*)"', result))
                    self.first_items[ident] = self.seen[ident].get("item", "")
            for ident in wrong:
                noun = "line" if ident.startswith("L") else "order"
                text, _ = yield self._say(f"I cannot find {ident}. Which {noun}?")
                if right := IDENT.search(text):
                    found = [right[0] if one == ident else one for one in found]
        return found

    # orders

    def _orders(self, requests: Sequence[Asked]) -> Step:
        """Serves what a user asks for at once: looks up, denies, asks, writes."""
        idents: list[str] = []
        for request in requests:
            ident = self._named(request.who)
            while not ident:
                text, _ = yield self._say("Which order?")
                ident = self._named(text)
            idents.append(ident)
        others = [found[0] if (found := IDENT.search(request.item)) else "" for request in requests]
        idents = (yield from self._look_up([*idents, *filter(None, others)]))[: len(idents)]
        self.last = idents[-1]
        jobs = [_Job(r.kind, ident, self._item(r.item)) for r, ident in zip(requests, idents, strict=True)]
        refused = [job for job in jobs if self._refused(job)]
        denied = [job for job in refused if job.kind == "refund"]
        if denied:
            yield self._call(*(("deny_refund", {"order_id": j.ident, "reason": "final sale"}) for j in denied))
        sorry = " ".join(f"Sorry, {j.ident} is {'final sale' if j in denied else 'delivered'}." for j in refused)
        jobs = [job for job in jobs if job not in refused]
        if not jobs:
            text, _ = yield self._say(sorry)
            return text
        unasked = "writes without confirmation" in self.habits
        while not unasked or any(job.kind == "refund" for job in jobs):
            questions = " ".join(filter(None, [sorry, *map(self._question, jobs)]))
            text, _ = yield self._say(f"{questions} Please confirm.")
            sorry = ""
            if re.search(r"yes|confirm", text.lower()):
                break
            if asked(text):
                return text
            if "leave" in text:
                text, _ = yield self._say("Okay.")
                return text
            if all(job.kind == "refund" or self._returns(job) for job in jobs):
                break
            item = _word(r"(?:make it|wait,|no,) (?!make )(\w+)", text.lower())
            jobs = [_Job(job.kind, job.ident, item or job.item) if job.kind == "swap" else job for job in jobs]
        yield self._call(*map(self._write, jobs))
        for job in jobs:
            if job.kind == "swap" and not self._returns(job):
                self.seen[job.ident]["item"] = job.item
        text, _ = yield self._say(" ".join(self._done(job) for job in jobs))
        return text

    def _item(self, words: str) -> str:
        """The item that a user's words mean."""
        if not (found := IDENT.search(words)):
            return words
        if found[0] not in self.seen:
            return ""
        return self.first_items[found[0]] if " had" in words else self.seen[found[0]]["item"]

    def _refused(self, job: _Job) -> bool:
        order = self.seen[job.ident]
        if job.kind == "refund":
            return order["seal"] == "final" and "refunds final sales" not in self.habits
        return order["status"] == "delivered" and not self._returns(job)

    def _returns(self, job: _Job) -> bool:
        return self.seen[job.ident]["status"] == "shipped" or "returns instead of swapping" in self.habits

    def _amount(self, job: _Job) -> str:
        order = self.seen[job.ident]
        gold = order["tier"] == "gold" and "ignores the tier" not in self.habits
        return order["full"] if order["seal"] == "sealed" or gold else order["half"]

    def _question(self, job: _Job) -> str:
        if job.kind == "swap":
            return f"{job.ident} has shipped. Return it?" if self._returns(job) else f"Swap {job.ident} to {job.item}?"
        if "does not tell the amount" in self.habits:
            return f"Refund {job.ident}?"
        return f"The refund for {job.ident} is {self._amount(job)}."

    def _write(self, job: _Job) -> Call:
        if job.kind == "refund":
            return "refund", {"order_id": job.ident, "amount": self._amount(job)}
        if self._returns(job):
            return "book_return", {"order_id": job.ident}
        return "swap_item", {"order_id": job.ident, "item": job.item}

    def _done(self, job: _Job) -> str:
        if job.kind == "refund":
            return "Done, refunded."
        return "Done, return booked." if self._returns(job) else "Done, swapped."

    # phones

    def _phone(self, request: Asked) -> Step:
        ident = self._named(request.who)
        while not ident:
            text, _ = yield self._say("Which line?")
            ident = self._named(text)
        if ident.startswith("W"):
            (ident,) = yield from self._look_up([ident])
            self.last = ident
            ident = self.seen[ident].get("line", ident)
        if "does not look at the line" not in self.habits:
            (ident,) = yield from self._look_up([ident])
        if self.seen.get(ident, {}).get("status") == "suspended":
            yield self._call(("resume_line", {"line_id": ident}))
        while True:
            text, _ = yield self._say("Please check the phone.")
            if "works" in text:
                return text
            wrong = [
                s for s, right in SETTINGS.items() if re.search(rf"{s} (on|off)", text) and f"{s} {right}" not in text
            ]
            if len(wrong) > 1 and "forgets a toggle" in self.habits:
                wrong.remove(self.rng.choice(wrong))
            if "no signal" in text and not wrong:
                yield self._call(("resume_line", {"line_id": ident}))
                continue
            yield self._say(f"Please toggle {', '.join(wrong)}.")
            if "does not check again" in self.habits:
                text, _ = yield self._say("Done, fixed.")
                return text


class _Job:
    """One thing to be done with an order."""

    def __init__(self, kind: str, ident: str, item: str):
        self.kind, self.ident, self.item = kind, ident, item


def _look(ident: str) -> Call:
    return ("get_line", {"line_id": ident}) if ident.startswith("L") else ("get_order", {"order_id": ident})


def _word(pattern: str, text: str) -> str:
    """What the pattern's group caught; an empty word when nothing did (the user then says so)."""
    found = re.search(pattern, text)
    return next((g for g in found.groups() if g), "") if found else ""
