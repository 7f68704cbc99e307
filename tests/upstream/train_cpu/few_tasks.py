"""A plugin (`tau2_plugins`): helpdesk's split `few`, which a small model learns by heart within a minute, errors
included.
"""

from __future__ import annotations

from slime_tau2.config import Tau2Config
from slime_tau2.episode import worlds

PER_FAMILY = 10
_world = worlds.load("helpdesk", retail_basis=Tau2Config().retail_basis)
_train = _world.task_ids("train+val")
TASKS = [
    t for family in ("orders", "refunds", "phones") for t in [t for t in _train if t.startswith(family)][:PER_FAMILY]
]
_world.splits["few"] = TASKS
