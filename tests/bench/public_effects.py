"""What public comparisons could have seen: `python tests/bench/public_effects.py`. A second.

For each comparison of two models on the same tasks: the difference, its 95 % interval, and the smallest true difference
that so many tasks and attempts show with 80 % power, each where tasks gain alike (ρ = 1) and where they have nothing to
do with one another (ρ = 0; also the interval where the tasks are not the same). Success is spread over tasks as pass@1
and pass@4 say, by a Beta distribution. Sources: slime's pull request 1156 (its cookbook, its eval.py, a reader's
reproduction), the model cards of Qwen3-4B-tau2-sft1 and -grpo-v1, EXPERIMENTS.md of quizshin/tau2-grpo.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from rich.console import Console

from slime_tau2.evaluation import power, power_tables, variance
from slime_tau2.evaluation.estimators import Z
from slime_tau2.evaluation.power import Case, Coupling, Difficulty
from slime_tau2.evaluation.power_tables import Answers

K = 4


@dataclass(frozen=True)
class Model:
    """A row of somebody's table: shares."""

    name: str
    once: float
    any_of: float

    def difficulty(self, metric: str) -> Difficulty:
        """Spread of pass@1, or of pass@4 as one outcome per task."""
        single = Difficulty.of_pass_at(self.once, self.any_of, K)
        if metric == "pass@1":
            return single
        both = 1 / single.between - 1
        b, whole = (1 - self.once) * both, both
        missed = [1.0]
        for n in range(2 * K):
            missed.append(missed[-1] * (b + n) / (whole + n))
        between = (missed[2 * K] - missed[K] ** 2) / (self.any_of * (1 - self.any_of))
        return Difficulty(rate=self.any_of, between=between)


CARD = (Model("SFT", 0.40, 0.60), Model("GRPO", 0.36, 0.59))
REPEATED = (Model("base", 0.04, 0.13), Model("SFT", 0.28, 0.55), Model("GRPO", 0.36, 0.60))
QUIZSHIN = (
    Model("base", 0.5, 42 / 60),
    Model("SFT", 0.45, 43 / 60),
    Model("GRPO", 99 / 240, 41 / 60),
    Model("turn credit", 95 / 240, 39 / 60),
)
LONGER = (Model("SFT", 110 / 240, 46 / 60), Model("GRPO, 30 steps", 130 / 240, 46 / 60))
ROWS = [
    # who, the two models, metric, tasks, attempts
    ("card", *CARD, "pass@1", 100, 1),
    ("card", *CARD, "pass@4", 100, 1),
    ("pull request 1156", REPEATED[0], REPEATED[1], "pass@1", 100, 1),
    ("pull request 1156", REPEATED[1], REPEATED[2], "pass@1", 100, 1),
    ("pull request 1156", REPEATED[1], REPEATED[2], "pass@4", 100, 1),
    ("quizshin", QUIZSHIN[0], QUIZSHIN[1], "pass@1", 60, 4),
    ("quizshin", QUIZSHIN[0], QUIZSHIN[2], "pass@1", 60, 4),
    ("quizshin", QUIZSHIN[0], QUIZSHIN[3], "pass@1", 60, 4),
    ("quizshin", QUIZSHIN[2], QUIZSHIN[3], "pass@1", 60, 4),
    ("quizshin", *LONGER, "pass@1", 60, 4),
]
"""pass@1 of the card and of the pull request is of the first attempt at each task: eval.py takes `attempts[0]`."""


def error(a: Difficulty, b: Difficulty, correlation: float, *, tasks: int, attempts: int) -> float:
    parts = power.difference(a, b, Coupling(correlation=correlation))
    return sqrt(parts.of_mean(tasks=tasks, attempts=attempts))


def main() -> None:
    print("| | | difference | 95 %, ρ = 1 | 95 %, ρ = 0 | shows (ρ = 1 to 0) | could it be seen? |")
    print("|---|---|---|---|---|---|---|")
    for who, first, second, metric, tasks, attempts in ROWS:
        a, b = first.difficulty(metric), second.difficulty(metric)
        effect = b.rate - a.rate
        errors = [error(a, b, rho, tasks=tasks, attempts=attempts) for rho in (1.0, 0.0)]
        intervals = [f"[{100 * (effect - Z * e):+.1f}, {100 * (effect + Z * e):+.1f}]" for e in errors]
        shown = [variance.smallest_effect(e) for e in errors]
        verdict = "yes" if abs(effect) >= shown[1] else "no" if abs(effect) < shown[0] else "only if tasks gain alike"
        print(
            f"| {who} | {first.name} → {second.name}, {metric}, {tasks} × {attempts} | {100 * effect:+.1f} | "
            f"{' | '.join(intervals)} | {100 * shown[0]:.1f} to {100 * shown[1]:.1f} | {verdict} |"
        )
    base, grpo = 10 / 70, 36 / 100
    apart = sqrt(base * (1 - base) / 70 + grpo * (1 - grpo) / 100)
    effect = grpo - base
    print(
        f"the card's base and GRPO, other tasks (70 and 100, one attempt): {100 * effect:+.1f} "
        f"[{100 * (effect - Z * apart):+.1f}, {100 * (effect + Z * apart):+.1f}], "
        f"shows {100 * variance.smallest_effect(apart):.1f}"
    )
    sides = QUIZSHIN[2].difficulty("pass@1"), QUIZSHIN[3].difficulty("pass@1")
    told = (f"±{100 * Z * error(*sides, rho, tasks=60, attempts=4):.1f} at ρ = {rho}" for rho in (1.0, 0.8, 0.5, 0.0))
    print(f"GRPO → turn credit, quizshin's own interval paired by task: [-8.3, +5.0], ±6.7; here {', '.join(told)}")
    like = CARD[1].difficulty("pass@1")
    print(
        f"a policy like the card's: {100 * like.rate:.0f} %, {100 * like.between:.0f} % of the variance between tasks"
    )
    cases = [Case(f"ρ = {rho:g}", like, Coupling(correlation=rho)) for rho in (1.0, 0.8, 0.0)]
    table, _ = power_tables.smallest(Answers(cases=cases, planned=cases[1], effect=0.05))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
