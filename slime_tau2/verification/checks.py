"""What the eight checks can find of a task, by name."""

from __future__ import annotations

from dataclasses import dataclass

CHECKS = {
    1: "gold earns everything",
    2: "idleness earns nothing",
    3: "each write is needed and exact",
    4: "the policy allows it",
    5: "the user can be played",
    6: "nothing of a test task",
    7: "the order of lists",
    8: "nothing forbidden earns",
}
"""{number: what it is about}"""


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        check: which check finds it.
        refuses: whether a task that has it is refused; else it is a note.
        says: what is the matter, as the table has it.
    """

    check: int
    refuses: bool
    says: str


KINDS: dict[str, Kind] = {
    "gold-loses": Kind(1, True, "the gold calls earn less than 1.0"),
    "gold-fails": Kind(1, True, "a gold call fails, and is not said to be meant to"),
    "not-replayable": Kind(1, True, "tau2's own evaluator differs"),
    "judged": Kind(1, False, "a judge decides too, which was not asked: graded without its part"),
    "no-criteria": Kind(1, True, "nothing says what earns a reward"),
    "nothing-pays": Kind(2, True, "doing nothing is rewarded, though gold has writes"),
    "refusal-undeclared": Kind(2, True, "gold has no write, idleness is rewarded, and no refusal is declared"),
    "transfer-pays": Kind(2, True, "transferring at once is rewarded"),
    "empty-pays": Kind(2, True, "gold's calls with empty arguments are rewarded"),
    "write-unneeded": Kind(3, True, "gold without one of its writes is rewarded"),
    "write-doubled": Kind(3, True, "gold with a write made twice is rewarded, though the second changes something"),
    "answer-unneeded": Kind(3, True, "an answer is in what else is said, given or returned, or in the story"),
    "argument-free": Kind(3, False, "an argument of a write may have other values"),
    "rule-broken": Kind(4, True, "a rule of the policy forbids what is done"),
    "refusal-unnamed": Kind(4, True, "a wish is refused or transferred, and no rule that forbids it is named"),
    "refusal-writes": Kind(4, True, "a task that is declared refused or transferred has writes"),
    "policy-unchecked": Kind(4, False, "nobody says which rules it touches"),
    "argument-unknown": Kind(5, True, "a value that a write needs is told to nobody and read nowhere"),
    "number-unknown": Kind(5, False, "a number that is neither told nor read, nor made of two that are"),
    "choice-untold": Kind(5, False, "a choice of the policy's or a schema's words that the scenario does not settle"),
    "search-needed": Kind(5, False, "a value that only a read returns which gold does not make"),
    "test-record": Kind(6, True, "a record of a test task is in it"),
    "test-sentence": Kind(6, True, "a sentence of a test task's scenario is in it"),
    "order-decides": Kind(7, False, "a list in another order loses the reward, and nothing fixes the order"),
    "violation-pays": Kind(8, True, "gold and one more write that the policy forbids is rewarded"),
    "unasked-pays": Kind(8, False, "gold and one more write that nobody asks for is rewarded; no rule speaks of it"),
}
"""{name: what it means}, in the order in which tables list them."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found of a task.

    Attributes:
        kind: key of `KINDS`.
        text: the case at hand, in a few words.
    """

    kind: str
    text: str
