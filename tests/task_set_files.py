"""Small task sets for tests."""

import json
import shutil

from slime_tau2 import bench
from slime_tau2.bench.tasks import domain_dir
from slime_tau2.episode import worlds
from slime_tau2.tasksets import writing

COUNT = 12


def tasks(domain="retail", count=COUNT):
    """JSON of the first tasks of a domain whose gold actions all succeed."""
    world = worlds.load(domain)
    good = (t for t in world.tasks.values() if not any(world.grader.gold(t).errs))
    return [next(good).model_dump(mode="json") for _ in range(count)]


def write(directory, name="more-retail", domain="retail", count=COUNT, verified=True, **options):
    """A set of copies of a domain's tasks; all of them verified."""
    options = {"tasks": tasks(domain, count)} | options
    made = writing.write_set(directory, name=name, domain=domain, **options)
    if verified:
        verdicts = [writing.Verdict(task=task_id, passed=True) for task_id in made.tasks]
        made = writing.write_verified(directory, verdicts, checks=["gold"])
    return made


def changed_database(path, number):
    """A copy of retail's database in which one order more than in the one before is `pending`; returns that order."""
    shutil.copy(domain_dir("retail") / "db.json", path)
    content = json.loads(path.read_text())
    delivered = [o for o in content["orders"].values() if o["status"] == "delivered"]
    for order in delivered[: number + 1]:
        order["status"] = "pending"
    path.write_text(json.dumps(content))
    return delivered[number]["order_id"]


def cancel(order_id, task_id):
    """A task about an order."""
    return bench.Task.model_validate(
        {
            "id": task_id,
            "user_scenario": {"instructions": "Cancel your order."},
            "evaluation_criteria": {
                "actions": [
                    {
                        "action_id": "cancel",
                        "name": "cancel_pending_order",
                        "arguments": {"order_id": order_id, "reason": "no longer needed"},
                    }
                ],
                "reward_basis": ["DB"],
            },
        }
    ).model_dump(mode="json")
