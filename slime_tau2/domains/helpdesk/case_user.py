"""The scripted user of cases: brings up one request after the other, follows the agent, and errs sometimes.

It errs in the ways of `user.HelpdeskUser`, less often per request, because a case has several.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from slime_tau2.bench import STOP, TRANSFER, UserMessage
from slime_tau2.domains.helpdesk.cases import Request
from slime_tau2.domains.helpdesk.speaker import OPENINGS, WITHOUT_ID, Speaker
from slime_tau2.domains.helpdesk.tasks import LINE_IDS, ORDER_IDS

FAMILY = {"swap": "orders", "refund": "refunds", "phone": "phones"}
BY_ORDER = ("No internet on the line of {id}.", "The line of {id} does not work.")
"""Openings about a phone whose line the user does not know."""
LEAVES_ID_OUT = 0.03
MISTYPES_ID = 0.03
HANGS_UP = 0.003
"""Probability per confirmation."""
OKAY = "Okay. "
AMOUNT = re.compile(r"\$\d+")


class CaseUser(Speaker):
    """One user, who has several requests."""

    def __init__(self, requests: Sequence[Request], idents: Sequence[str], seed: int):
        super().__init__(random.Random(f"cases:{list(requests)}:{seed}"))
        self.idents = idents
        self.groups: list[list[_Matter]] = []
        for request in requests:
            if not request.with_previous:
                self.groups.append([])
            self.groups[-1].append(_Matter(request))
        self.open: list[_Matter] = []
        self.amount = 0

    def _to(self, text: str) -> UserMessage:
        said = text.lower()
        if "transfer" in said:
            return self._say(TRANSFER)
        if not self.open:  # at the beginning, and after the user left something as it is
            return self._next("")
        if amounts := AMOUNT.findall(text):
            self.amount = int(amounts[-1][1:])
        if re.search(r"which|find", said):
            return self._identify(text)
        answer = self._refused(text)
        if "confirm" in said and self.open:
            return self._confirm(text)
        if answer:
            return self._next(answer) if answer == OKAY else self._say(answer)
        if self._phone() and (done := self._at_phone(said)) is not None:
            return done
        if re.search(r"done|fixed|sorry", said):
            agreed = [matter for matter in self.open if matter.agreed]
            for matter in agreed or list(self.open):
                self.open.remove(matter)
            return self._next(self.rng.choice(("Thanks. ", "Great. ")))
        return self._confusion()

    def _next(self, before: str) -> UserMessage:
        """What is open still; else the next group of requests; else the end."""
        if not self.open:
            if not self.groups:
                return self._say((before or "Thanks, bye. ") + STOP)
            self.open = self.groups.pop(0)
        right = True
        words: list[str] = []
        for matter in self.open:
            words.append(self._opening(matter, may_err=right))
            right = right and not matter.wrong
        return self._say(before + " ".join(words))

    def _opening(self, matter: _Matter, *, may_err: bool) -> str:
        request, rng = matter.request, self.rng
        if request.at_least and self.amount < int(request.at_least[1:]):
            matter.item = request.when_low
        called, item, may_err = request.called, matter.item, may_err and request.called == request.ident
        if item == request.item:
            item = request.item_called
        draw = rng.random()
        if may_err and draw < LEAVES_ID_OUT:
            matter.wrong = "?"
            return WITHOUT_ID[FAMILY[request.kind]].format(item=item)
        if may_err and draw < LEAVES_ID_OUT + MISTYPES_ID:
            pool = LINE_IDS if called in LINE_IDS else ORDER_IDS
            called = matter.wrong = rng.choice([ident for ident in pool if ident not in self.idents])
        by_order = request.kind == "phone" and called not in LINE_IDS
        openings = BY_ORDER if by_order else OPENINGS[FAMILY[request.kind]]
        return rng.choice(openings).format(id=called, item=item)

    def _identify(self, text: str) -> UserMessage:
        """The id that the agent asks for: the one that was left out or mistyped; else all that are spoken of."""
        asked = [m for m in self.open if m.wrong == "?" or (m.wrong and m.wrong in text)] or self.open
        ids = " and ".join(dict.fromkeys(matter.request.ident for matter in asked))
        return self._say(self.rng.choice(("It is {id}.", "{id}.")).format(id=ids))

    def _refused(self, text: str) -> str:
        """Takes note of what the agent says it cannot do; what the user says to it, "" if there is nothing."""
        about = [part for part in text.split(".") if re.search(r"final sale|delivered|sorry|cannot", part.lower())]
        named = [m for m in self.open if any(m.request.ident in part for part in about)]
        if about and not named:
            named = self.open[:1]
        answer = OKAY if named else ""
        for matter in named:
            if matter.kind == "swap" and matter.request.refused == "refund":
                matter.kind, answer = "refund", "Then refund it."
            else:
                self.open.remove(matter)
        return answer

    def _confirm(self, text: str) -> UserMessage:
        asked = [m for m in self.open if m.request.ident in text] or self.open
        for matter in asked:
            if matter.kind != "swap":
                continue
            if "return" in text.lower():
                if matter.request.refused == "refund":
                    matter.kind = "refund"
                    return self._say("No, refund it.")
                if matter.request.refused == "keep":
                    self.open.remove(matter)
                    return self._say("No, leave it.")
            elif matter.request.second_item and not matter.changed_mind:
                matter.changed_mind = True
                matter.item = matter.request.second_item
                words = self.rng.choice(("No, make it {item}.", "Wait, {item} is better."))
                return self._say(words.format(item=matter.item))
            elif matter.told and matter.item not in text.lower():
                return self._say(f"No, {matter.item}.")
        if self.rng.random() < HANGS_UP:
            return self._say(f"Yes, bye. {STOP}")
        for matter in asked:
            matter.agreed = True
        return self._say(self.rng.choice(("Yes.", "Yes please.", "I confirm.")))

    def _phone(self) -> bool:
        return any(matter.kind == "phone" for matter in self.open)

    def _online(self) -> UserMessage:
        self.open = [matter for matter in self.open if matter.kind != "phone"]
        return self._next("It works, thanks. ")


class _Matter:
    """A request, and how it stands."""

    def __init__(self, request: Request):
        self.request = request
        self.kind = request.kind
        self.item = request.item
        self.told = request.item == request.item_called
        """Whether the user has named the item itself, and so knows it."""
        self.wrong = ""
        """The id that the user gave by mistake; "?" if it gave none."""
        self.changed_mind = False
        self.agreed = False
