"""What a task says of itself in `description.notes`, if a factory wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from slime_tau2 import bench

KEY = "factory"
"""Key of the notes' JSON under which all this stands; what the domain's own user reads may stand beside it."""
MEANT_TO_FAIL = "meant to fail"
"""`Action.info` of a gold call that fails on purpose."""

Outcome = Literal["done", "refused", "transferred"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class DeclaredWish(_Part):
    """One wish of the task's user."""

    family: str
    """Which family of the factory made it."""
    outcome: Outcome
    """What becomes of it."""
    rules: Mapping[str, bool]
    """{rule of the policy that it touches: whether it holds}."""
    tried: Mapping[str, bool] = {}
    """The same of what the user asks for at first, in vain."""


class Declared(_Part):
    """The factory's notes of a task."""

    owner: str
    """Whom the task is about."""
    outcome: Outcome
    """What becomes of the task; a refusal and a transfer have no writes."""
    difficulty: int
    """Writes, and facts that the user does not tell at once."""
    identity: Mapping[str, bool] = {}
    """{rule about who the user is: whether it holds}."""
    wishes: tuple[DeclaredWish, ...]
    """The wishes in order."""
    free: Mapping[str, tuple[str, ...]] = {}
    """{number of a gold call: its arguments that the reward does not depend on}."""
    any_order: Mapping[str, tuple[str, ...]] = {}
    """{number of a gold call: its lists whose order the user does not care about}."""
    in_order: Mapping[str, tuple[str, ...]] = {}
    """{number of a gold call: its lists whose order the user says}."""
    entities: tuple[str, ...] = ()
    """Ids of the records that the task touches."""


def of(task: bench.Task) -> Declared | None:
    """What a task declares; None for tasks that no factory made."""
    notes = task.description.notes if task.description else None
    if not notes or KEY not in notes:
        return None
    try:
        return Declared.model_validate(json.loads(notes)[KEY])
    except (ValueError, ValidationError, KeyError, TypeError):
        return None
