"""The rows of a table of scores: overall by task, mean over domains, each domain, families of tasks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from slime_tau2 import traits
from slime_tau2.evaluation import estimators
from slime_tau2.evaluation.estimators import Estimate
from slime_tau2.evaluation.plan import TaskKey

OVERALL = "overall"
"""Every task weighs the same, as in the model card's row."""
MACRO = "mean of domains"
"""Every domain weighs the same."""
Scores = dict[str, dict[str, Estimate]]
"""{row: {metric: estimate}}"""


def family(key: TaskKey) -> str:
    """The group of a task in tables: its family where the domain's traits name any, else the domain."""
    domain, task_id = key
    group = traits.of(domain).family
    return domain if group is None else group(task_id)


def ks(attempts: int) -> list[int]:
    """The k that tables show."""
    return sorted({1, *(k for k in (2, 4, 8) if k <= attempts), attempts})


def scores(successes: Mapping[TaskKey, Sequence[bool]], shown: Iterable[int]) -> Scores:
    """Rows of a run.

    With one domain: overall, and its families where it has several. With several: overall, their mean, each.
    """
    shown = list(shown)
    domains = list(dict.fromkeys(domain for domain, _ in successes))
    families = sorted({family(key) for key in successes})
    out = {OVERALL: estimators.summarise(successes, shown)}
    if len(domains) > 1:
        by_domain = {d: estimators.summarise({k: s for k, s in successes.items() if k[0] == d}, shown) for d in domains}
        common = [m for m in out[OVERALL] if all(m in row for row in by_domain.values())]
        out[MACRO] = {m: estimators.mean_of([row[m] for row in by_domain.values()]) for m in common}
        out |= by_domain
    elif len(families) > 1:
        out |= {
            f: estimators.summarise({k: s for k, s in successes.items() if family(k) == f}, shown) for f in families
        }
    return out
