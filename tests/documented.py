"""The commands that the pages tell a reader to run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("patches/*.md")])
NAMES = lambda page: str(page.relative_to(ROOT))  # noqa: E731
MARKS = ("needs GPU", "needs GitHub", "by hand")
"""What a page says beside a command that no test runs."""


@dataclass(frozen=True)
class Command:
    """`words` as the shell would split them, `VARIABLE=value` left out; `marks` stand beside it, on its block's or its
    page's head.
    """

    words: tuple[str, ...]
    marks: frozenset[str]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def commands(page: Path) -> Iterator[Command]:
    """Each command in a page's shell blocks and inline code; comments and continuations resolved.

    Inline code that only names a command (`slime-tau2 eval`) is none.
    """
    text = page.read_text(encoding="utf-8")
    head = text.partition("\n## ")[0]
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        lines = block.replace("\\\n", " ").splitlines()
        whole = lines[0] if lines[0].startswith("#") else ""
        for line in lines:
            command, _, comment = line.partition(" #")
            yield from _split(command, comment + whole + head)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for found in re.finditer(r"`([^`\n]+)`(?: \(([^)\n]*)\))?", text):
        if re.match(r"(bash launch|slime-tau2 \S+|python \S+) \S", found[1]):
            yield from _split(found[1], (found[2] or "") + head)


def _split(line: str, comment: str) -> Iterator[Command]:
    marks = frozenset(m for m in MARKS if m in comment)
    for part in re.split(r" && |; ", line):
        if part.strip() and not part.startswith("#"):
            words = shlex.split(part)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words and not words[0].startswith("--"):  # README's list of slime's options
                yield Command(tuple(words), marks)
