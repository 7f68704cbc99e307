"""`python tests/bench/picture.py` writes docs/system.svg, the picture of the system in README.

Colours follow the reader's light or dark mode, over a background of the picture's own.
"""

from pathlib import Path
from xml.sax.saxutils import escape

FILE = Path(__file__).parents[2] / "docs" / "system.svg"
WIDTH, HEIGHT = 900, 512
STYLE = """
svg { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif }
.page { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328 } .small { font-size: 12px; fill: #57606a }
.name { font-weight: 600 } .line { fill: none; stroke: #57606a; stroke-width: 1.5 } #head path { fill: #57606a }
.group { fill: none; stroke: #8c959f; stroke-dasharray: 5 4 }
.ours { fill: #ddf4ff; stroke: #0969da } .tau2 { fill: #dafbe1; stroke: #1a7f37 } .host { fill: #fff1e5; stroke: #bc4c00 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117; stroke: #30363d } text { fill: #e6edf3 } .small { fill: #9da7b1 }
.line { stroke: #9da7b1 } #head path { fill: #9da7b1 } .group { stroke: #6e7681 }
.ours { fill: #0c2d4d; stroke: #58a6ff } .tau2 { fill: #0f3520; stroke: #3fb950 } .host { fill: #42230d; stroke: #f0883e }
}
"""


def text(x: float, y: float, words: str, *, kind: str = "small", anchor: str = "middle") -> str:
    """A line of text; `y` is its base line."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, *, kind: str, name: str, lines: tuple[str, ...]) -> str:
    """A named box with lines of smaller text, centred."""
    top = y + height / 2 - 8 * len(lines) + 4
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" class="{kind}"/>']
    parts.append(text(x + width / 2, top, name, kind="name"))
    parts += [text(x + width / 2, top + 17 * n, line) for n, line in enumerate(lines, 1)]
    return "\n".join(parts)


def arrow(*points: tuple[float, float], both: bool = False) -> str:
    """A line through points, with a head at its end, or at both."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    start = ' marker-start="url(#head)"' if both else ""
    return f'<polyline points="{path}" class="line" marker-end="url(#head)"{start}/>'


def legend(x: float, kind: str, words: str) -> str:
    return f'<rect x="{x}" y="478" width="14" height="14" rx="3" class="{kind}"/>\n' + text(
        x + 21, 490, words, anchor="start"
    )


def picture() -> str:
    """The SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        "<title>From a task to new weights, and to an evaluation</title>",
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>',
        f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10" class="page"/>',
        box(20, 60, 150, 76, kind="tau2", name="Tasks", lines=("tau2's own,", "or task sets")),
        box(20, 184, 150, 76, kind="ours", name="Data source", lines=("which task next,", "groups of samples")),
        '<rect x="215" y="30" width="440" height="262" rx="10" class="group"/>',
        text(435, 50, "One episode: one conversation", kind="name"),
        box(235, 66, 160, 84, kind="ours", name="Agent", lines=("text into tool calls,", "words to the user")),
        box(475, 66, 160, 84, kind="tau2", name="Environment", lines=("tools, databases,", "policy")),
        box(475, 192, 160, 84, kind="ours", name="User simulator", lines=("a model,", "or the domain's script")),
        box(
            235,
            192,
            160,
            84,
            kind="ours",
            name="Token ledger",
            lines=("ids, log-probs and mask,", "exactly as sampled"),
        ),
        box(696, 66, 176, 84, kind="tau2", name="Reward", lines=("tau2's own evaluator;", "the shaping is ours")),
        box(696, 192, 176, 84, kind="host", name="Trainer", lines=("slime with Megatron,", "or one process on a CPU")),
        box(235, 344, 160, 76, kind="host", name="Policy server", lines=("SGLang, vLLM,", "or the local engine")),
        box(475, 344, 160, 76, kind="ours", name="Records", lines=("every conversation", "with its tokens")),
        box(
            696,
            344,
            176,
            76,
            kind="ours",
            name="What you look at",
            lines=("report, compare, select,", "rollouts, model card"),
        ),
        arrow((95, 136), (95, 184)),
        arrow((170, 222), (215, 222)),
        arrow((395, 108), (475, 108), both=True),
        text(435, 100, "calls"),
        text(435, 125, "results"),
        arrow((385, 150), (475, 210), both=True),
        text(446, 172, "words"),
        arrow((300, 150), (300, 192), both=True),
        arrow((300, 276), (300, 344), both=True),
        text(308, 317, "ids and log-probs", anchor="start"),
        arrow((655, 108), (696, 108)),
        arrow((784, 150), (784, 192)),
        text(792, 175, "advantages", anchor="start"),
        arrow((872, 234), (886, 234), (886, 446), (195, 446), (195, 382), (235, 382)),
        text(440, 462, "new weights after each step"),
        arrow((555, 292), (555, 344)),
        arrow((635, 382), (696, 382)),
        legend(60, "ours", "slime_tau2: its hooks and tools"),
        legend(330, "tau2", "tau2-bench"),
        legend(480, "host", "the host: slime on GPUs, or this package on a CPU"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
    print(f"wrote {FILE}")
