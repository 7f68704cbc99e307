"""Run inside a Ray job, with the environment that training will have: says what arrived there, on every node.

`python3 -P probe.py JSON` beside nothing but Ray: on a node where this package cannot be imported that must be a
finding, not a crash. The last line of its output is MARK and the JSON of what it found:

    {"gpus": registered, "gpus_free": now, "cpus": …, "nodes": [{"host", "ip", "gpus", "missing": modules, "broken":
     what importing the hooks or tau2's data said, "differs": variables, "folders": {path: "" or why not}, "token":
     bool, "absent_keys": names, "user": "" or why not, "network": what is wrong with it} or {"ip", "gpus", "error"}]}

Each node is asked by a task without CPUs, pinned to it: slime pins its RolloutManager to none, so that it may come to
life on any.
"""

from __future__ import annotations

import http.client
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
    """Empty where a server answers at `url`/models from here, without any proxy, as the episodes ask; else why not.

    The key is for this server: it does not follow a redirect.
    """
    try:
        request = urllib.request.Request(f"{url.rstrip('/')}/models")
        if os.environ.get(key):
            request.add_unredirected_header("Authorization", f"Bearer {os.environ[key]}")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=PATIENCE_S) as answer:
            answer.read(1)
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:  # the last one: what answers does not speak HTTP
        return f"does not answer ({getattr(error, 'reason', error)})"


def beside(name: str) -> Any:
    """A module of this folder, by its path: its package may not be importable."""
    spec = importlib.util.spec_from_file_location(
        f"doctor_{name}", os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    )
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(question: dict[str, Any]) -> dict[str, Any]:
    import ray  # type: ignore[import-not-found]
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # type: ignore[import-not-found]

    ray.init(log_to_driver=False, logging_level="ERROR")
    alive = [n for n in ray.nodes() if n["Alive"]]

    def on(node, thing, **options):
        pinned = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
        return ray.remote(thing).options(num_cpus=0, scheduling_strategy=pinned, **options)

    def got(task, default):
        """(the answer, "") or (default, why there is none): a node that died, or whose Python cannot start; the rest is
        worth telling.
        """
        try:
            return ray.get(task, timeout=question["patience_s"]), ""
        except Exception as error:
            return default, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no answer'}"

    told = []
    for node, task in [(n, on(n, look, max_retries=0).remote(question)) for n in alive]:
        here, why = got(task, {})
        here |= {
            "ip": node["NodeManagerAddress"],
            "gpus": int(node["Resources"].get("GPU", 0)),
            **({"error": why} if why else {}),
        }
        told.append(here)
    if question["several"]:
        network = beside("network")
        ray.cloudpickle.register_pickle_by_value(network)
        own = [got(t, [])[0] for t in [on(n, network.wrong, max_retries=0).remote(True) for n in alive]]
        listeners = [on(n, network.Listener).remote() for n in alive]
        where = [got(listener.where.remote(), None)[0] for listener in listeners]
        others = [[tuple(w) for m, w in enumerate(where) if m != n and w] for n in range(len(alive))]
        tried = [on(node, network.unreachable, max_retries=0).remote(o) for node, o in zip(alive, others, strict=True)]
        for here, lines, task in zip(told, own, tried, strict=True):
            here["network"] = [*lines, *(f"does not reach {line}" for line in got(task, [])[0])]
    all_of, free = ray.cluster_resources(), ray.available_resources()
    return {
        "gpus": int(all_of.get("GPU", 0)),
        "gpus_free": int(free.get("GPU", 0)),
        "cpus": int(all_of.get("CPU", 0)),
        "nodes": told,
    }


if __name__ == "__main__":
    print(MARK + json.dumps(main(json.loads(sys.argv[1]))), flush=True)
