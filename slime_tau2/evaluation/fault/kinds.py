"""The kinds of fault that can be proven, and one finding of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Party = Literal["user", "agent", "reference"]
SAID, LEFT_OUT, NOT_DONE, STOPPED = "said otherwise", "left out", "not done", "stopped early"
ORDER, AGAINST_POLICY = "only the order", "against the policy"
MADE_UP, OTHER_VALUE, RULE_BROKEN, UNREADABLE = "made up", "other than told", "rule broken", "unreadable"
KINDS: dict[str, tuple[Party, str]] = {
    SAID: ("user", "said what the scenario does not hold, and the agent used it"),
    LEFT_OUT: ("user", "never told what the scenario holds, though the agent asked or it is the user's to open with"),
    NOT_DONE: ("user", "was asked for an act of its own, said no more of it than words, and never did it"),
    STOPPED: ("user", "ended the conversation while the agent waited for an answer"),
    ORDER: ("reference", "the end state is the solution's but for the order of a list that nothing fixes"),
    AGAINST_POLICY: ("reference", "a write of the solution breaks a rule of the policy"),
    MADE_UP: ("agent", "wrote a value that nobody had given it"),
    OTHER_VALUE: ("agent", "wrote another value than the user had told it"),
    RULE_BROKEN: ("agent", "made a write that breaks a rule of the policy, which the solution keeps"),
    UNREADABLE: ("agent", "malformed calls or an empty turn ended it"),
}
"""{kind: (whose fault, what it is)}."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One proven fault.

    Attributes:
        kind: key of `KINDS`.
        message: index of the message that shows it; None where no message does.
        words: what was said or done there.
        held: what the scenario or the solution has instead, or what was asked for.
        mended: index of the message that put it right, so that the conversation did not fail by it.
    """

    kind: str
    message: int | None
    words: str
    held: str
    mended: int | None = None

    @property
    def party(self) -> Party:
        """Whose fault it is."""
        return KINDS[self.kind][0]

    @property
    def text(self) -> str:
        """All of it in a line."""
        where = "" if self.message is None else f"message {self.message}: "
        after = "" if self.mended is None else f"; put right in message {self.mended}"
        return f"{where}{self.words}; {self.held}{after}"
