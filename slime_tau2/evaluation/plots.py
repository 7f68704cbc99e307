"""A study's plot, as SVG: sharp at any size."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from slime_tau2.evaluation.estimators import Estimate

COLORS = ("#4477aa", "#cc6677", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#777777")


def _figure(columns: int, heights: Sequence[float] = (3.3,)) -> tuple[Any, Any]:
    """(figure, its axes: of one row of columns, or [row, column] of several, so many inches high each)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # with a salt of its own a figure of the same numbers is the same file
    plt.rcParams |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "slime_tau2",
        "font.family": "sans-serif",
        "font.size": 9,
    }
    size = (5.4 * columns, sum(heights))
    figure, axes = plt.subplots(
        len(heights), columns, figsize=size, layout="constrained", squeeze=False, height_ratios=heights
    )
    for plot in axes.flat:
        plot.grid(alpha=0.25)
        plot.spines[["top", "right"]].set_visible(False)
    return figure, axes if len(heights) > 1 else axes[0]


def _svg(figure: Any) -> str:
    import matplotlib.pyplot as plt

    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    plt.close(figure)
    return out.getvalue()[out.getvalue().index("<svg") :]


Curves = Mapping[str, Sequence[tuple[float, float]]]
"""{cell: (what was sampled so far, success)}; one point where a training samples only once."""


Measured = Mapping[str, Mapping[str, Sequence[float]]]
"""{what is measured: {cell: its value for each seed}}."""


def study(
    by_episodes: Curves, by_tokens: Curves, differences: Mapping[str, Estimate], metric: str, measured: Measured
) -> str:
    """Success in training over the episodes and over the tokens that were sampled, and differences between cells; below
    what the cells' models do in the held-out episodes.
    """
    cells = len(next(iter(measured.values())))
    figure, ((left, middle, right), below) = _figure(3, heights=(3.3, 0.9 + 0.22 * max(cells, len(differences))))
    for axes, curves, what in ((left, by_episodes, "episodes sampled"), (middle, by_tokens, "tokens sampled")):
        for n, (name, points) in enumerate(curves.items()):
            style = ("-", "--", ":")[n // len(COLORS) % 3] if len(points) > 1 else "o"
            xs, ys = [x for x, _ in points], [100 * y for _, y in points]
            once = "" if len(points) > 1 else ": samples once, before it trains"
            color = COLORS[n % len(COLORS)]
            axes.plot(xs, ys, style, color=color, linewidth=1.2, markersize=4, label=name + once)
        axes.set(title="Training", xlabel=what, ylabel="train success, % (mean over seeds)")
    left.legend(frameon=False, fontsize=7, ncol=2 if len(by_episodes) > 3 else 1)
    names = list(differences)
    for row, name in enumerate(reversed(names)):
        e = differences[name]
        color = COLORS[0 if e.low > 0 or e.high < 0 else 6]
        right.plot([100 * e.low, 100 * e.high], [row, row], color=color, linewidth=2)
        right.plot(100 * e.value, row, "o", color=color, markersize=5)
    right.axvline(0, color="#333333", linewidth=0.8)
    right.set(title=f"Held-out {metric}", xlabel="points, 95 % CI over seeds and tasks")
    right.set_yticks(range(len(names)), list(reversed(names)))
    for axes, (what, of_cells) in zip(below, measured.items()):
        for row, values in enumerate(reversed(list(of_cells.values()))):
            axes.plot(values, [row] * len(values), "|", color=COLORS[6], markersize=7)
            axes.plot(sum(values) / len(values), row, "o", color=COLORS[0], markersize=5)
        axes.set(xlabel=f"{what} (mean; | each seed)", ylim=(-0.6, len(of_cells) - 0.4))
        axes.set_yticks(range(len(of_cells)), list(reversed(list(of_cells))))
    return _svg(figure)
