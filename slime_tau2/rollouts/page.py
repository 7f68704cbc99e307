"""The page of a training's rollouts: one file that holds all of it, or the same page that asks a server."""

from __future__ import annotations

from pathlib import Path

from slime_tau2 import files
from slime_tau2.rollouts.reader import Reader
from slime_tau2.viewer import document

HERE = Path(__file__).parent
MOST_BYTES = 96 * 2**20
"""Most bytes of tokens in one file: those of the last rollouts."""
TITLE = "slime_tau2 rollouts"


def write(reader: Reader, path: Path) -> int:
    """Write the page, whole or not at all; returns how many rollouts did not fit with their tokens."""
    sizes, room, within = reader.sizes(), MOST_BYTES, []
    for rollout in reversed(sizes):
        room -= sizes[rollout] * 4 // 3
        if room < 0:
            break
        within.append(rollout)
    index = {**reader.index(), "within": sorted(within)}
    html = _render(live=False, first={"index": index}, later={f"r{n}": reader.tokens(n) for n in within})
    files.write_whole(path, html)
    return len(sizes) - len(within)


def live() -> str:
    """The page that asks the server which it came from."""
    return _render(live=True, first={}, later={})


def _render(*, live: bool, first: dict[str, object], later: dict[str, object]) -> str:
    return document.render(
        HERE / "page.html",
        values={"title": TITLE, "live": live},
        scripts=[HERE / "tokens.js", HERE / "page.js"],
        first=first,
        later=later,
    )
