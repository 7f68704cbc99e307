"""Run inside a Ray job, with the environment that training will have: says what arrived there, on every node.

`python3 -P probe.py JSON` beside nothing but Ray: on a node where this package cannot be imported that must be a finding, not a crash.
The last line of its output is MARK and the JSON of what it found:

    {"gpus": registered, "gpus_free": now, "cpus": …, "nodes": [{"host", "ip", "gpus", "missing": modules, "broken": what importing the
     hooks or tau2's data said, "differs": variables, "folders": {path: "" or why not}, "token": bool, "absent_keys": names,
     "user": "" or why not} or {"ip", "gpus", "error"}]}

Each node is asked by a task without CPUs, pinned to it: slime pins its RolloutManager to none, so that it may come to life on any.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
import urllib.error
import urllib.request
from typing import Any

MARK = "slime_tau2.doctor.probe: "
PATIENCE_S = 10.0


def look(question: dict[str, Any]) -> dict[str, Any]:
    """What this process sees: modules, variables, folders, the token, and the user simulator over HTTP."""
    missing = []
    for module in question["modules"]:
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            missing.append(module)
    folders = {}
    for folder in question["folders"]:
        folders[folder] = "" if os.path.isdir(folder) else "does not exist"
        if not folders[folder] and not os.access(folder, os.R_OK | os.X_OK):
            folders[folder] = "cannot be read"
    return {
        "host": socket.gethostname(),
        "missing": missing,
        "broken": "" if missing or not question["hooks"] else imports(),
        "differs": sorted(n for n, v in question["variables"].items() if os.environ.get(n) != v),
        "folders": folders,
        "token": not question["token"] or os.path.exists(question["token"]),
        "absent_keys": [n for n in question["keys"] if not os.environ.get(n)],
        "user": reach(question["user"], question["user_key"]) if question["user"] else "",
    }


def imports() -> str:
    """Empty where the hooks can be imported as slime will, and tau2 has its data; else why not."""
    try:
        from slime_tau2.doctor import findings, installation
        from slime_tau2.hooks import data_source  # noqa: F401

        return "; ".join(findings.as_line(f)[6:] for f in installation.tau2() if f.status == "fail")
    except Exception as error:  # whatever an installation can be short of
        return f"the hooks cannot be imported: {type(error).__name__}: {error}"


def reach(url: str, key: str) -> str:
    """Empty where a server answers at `url`/models from here, without any proxy, as the episodes ask; else why not."""
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/models")
        if os.environ.get(key):
            request.add_header("Authorization", f"Bearer {os.environ[key]}")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_S) as answer:
            answer.read(1)
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return f"does not answer ({getattr(error, 'reason', error)})"


def main(question: dict[str, Any]) -> dict[str, Any]:
    import ray  # type: ignore[import-not-found]
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # type: ignore[import-not-found]

    ray.init(log_to_driver=False, logging_level="ERROR")
    alive = [n for n in ray.nodes() if n["Alive"]]
    asked = []
    for node in alive:
        pinned = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        asked.append(ray.remote(look).options(num_cpus=0, scheduling_strategy=pinned, max_retries=0).remote(question))
    told = []
    for node, task in zip(alive, asked, strict=True):
        here = {"ip": node["NodeManagerAddress"], "gpus": int(node["Resources"].get("GPU", 0))}
        try:
            here |= ray.get(task, timeout=question["patience_s"])
        except Exception as error:  # a node that died, or whose Python cannot start: the rest is still worth telling
            here["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no answer'}"
        told.append(here)
    all_of, free = ray.cluster_resources(), ray.available_resources()
    return {"gpus": int(all_of.get("GPU", 0)), "gpus_free": int(free.get("GPU", 0)), "cpus": int(all_of.get("CPU", 0)), "nodes": told}


if __name__ == "__main__":
    print(MARK + json.dumps(main(json.loads(sys.argv[1]))), flush=True)
