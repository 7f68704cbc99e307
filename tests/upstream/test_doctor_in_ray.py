"""The doctor's look into a Ray job, with a real Ray: its own ports and folder, GPUs that are only counted, two nodes on
one machine.

Needs `ray[default]` (the job server). The nodes are ended by the cluster that started them; no other Ray is touched.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path

import pytest
from fake_server import FakeServer
from serving import Serving

from slime_tau2.doctor import job
from slime_tau2.doctor.findings import Status, as_line
from slime_tau2.doctor.plan import Plan

pytestmark = [
    pytest.mark.upstream,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("aiohttp_cors") is None,
        reason="ray has no job server here: pip install 'ray[default]'",
    ),
]
ROOT = Path(__file__).parents[2]
TWO = Plan(nodes=2, gpus_per_node=4, gpus=8, trainers=4, engines=4, tp=2)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def ray_at(tmp_path_factory):
    """Two nodes of four counted GPUs; the address of their job server."""
    folder = f"/tmp/doctor-{os.getpid()}"  # short: Ray's sockets lie in it
    kept = dict(os.environ)
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "HERE_ALREADY": "the node's"}
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    from ray.cluster_utils import Cluster

    Path("/tmp/ray").mkdir(exist_ok=True)  # Ray notes the cluster's address there, whatever `temp_dir` is
    port = free_port()
    head = {
        "num_gpus": 4,
        "num_cpus": 6,
        "include_dashboard": True,
        "dashboard_port": port,
        "object_store_memory": 100_000_000,
        "dashboard_agent_listen_port": free_port(),
        "temp_dir": folder,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_gpus=4, num_cpus=6, object_store_memory=100_000_000, dashboard_agent_listen_port=free_port())
    yield f"http://127.0.0.1:{port}"
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    os.environ.clear()
    os.environ.update(kept)


def ask(**changes):
    stand_ins = {"modules": ("slime_tau2",), "hooks": False}
    environment = {
        "env_vars": {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "TAU2_DATA_DIR_TEST": "/a b\"c'",
        }
    }
    return job.Ask(**{"plan": TWO, "runtime_env": environment, **stand_ins, **changes})


def shown(found):
    return "\n".join(as_line(f) for f in found)


def test_what_is_in_place_is_seen_on_both_nodes(ray_at, tmp_path):
    fake = FakeServer({})
    fake.tells("/v1/models", {"data": []})
    with Serving(fake):
        found = job.check(
            ray_at, ask(folders=(str(tmp_path),), output=tmp_path / "out", user=f"{fake.url.removesuffix('/v1')}/v1")
        )
    assert [f.status for f in found] == [Status.OK, Status.OK], shown(found)
    assert (
        "8 (" in found[0].text
        and "each of 2 nodes: modules, 2 variables, 1 folders, the user simulator" in found[1].text
    )
    assert not list((tmp_path / "out").iterdir()), "the token is taken away"


def test_what_is_not_is_named_by_node(ray_at, tmp_path):
    gone = f"http://127.0.0.1:{free_port()}/v1"
    environment = {
        "env_vars": {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p and not p.startswith(str(ROOT)))}
    }
    wrong = ask(
        plan=Plan(nodes=2, gpus_per_node=8, gpus=16),
        runtime_env=environment,
        modules=("no_such_module",),
        keys=("NO_SUCH_KEY",),
        folders=("/no/such/folder",),
        user=gone,
    )
    found = shown(job.check(ray_at, wrong))
    assert "fail  ray gpus: Ray has 8 GPUs" in found and "16 on 2 × 8 and would wait for ever" in found
    assert "fail  ray cpus: Ray has 12, and slime's actors ask for 18" in found
    for text in (
        "no_such_module cannot be imported in the job",
        "/no/such/folder does not exist",
        f"{gone} does not answer",
    ):
        assert found.count(text) == 2, f"on each node: {text}\n{found}"
    assert found.count("NO_SUCH_KEY is not in the job's environment; export NO_SUCH_KEY before `ray start` there") == 2


def test_a_second_run_is_told_that_it_will_wait(ray_at):
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(ray_at)
    hold = "import ray, time; ray.init(); f = ray.remote(num_gpus=3)(lambda: time.sleep(60)); print('held'); ray.get([f.remote(), f.remote()])"
    first = client.submit_job(entrypoint=f'python3 -c "{hold}"')
    try:
        for _ in range(300):
            if "held" in client.get_job_logs(first):
                break
            time.sleep(0.1)
        for _ in range(50):
            found = job.check(ray_at, ask())
            if found[0].status is Status.WARN:
                break
        assert (
            found[0].status is Status.WARN
            and "2 of 8 are free" in found[0].text
            and f"ray job stop {first}" in found[0].fix
        ), shown(found)
    finally:
        client.stop_job(first)


def test_the_environment_is_the_jobs_and_not_this_shells(ray_at, monkeypatch):
    monkeypatch.setenv("ONLY_HERE", "x")
    lacks = ask(keys=("ONLY_HERE", "HERE_ALREADY"))
    found = shown(job.check(ray_at, lacks))
    assert "ONLY_HERE is not in the job's environment" in found and "HERE_ALREADY" not in found


def test_the_command_line_asks_it_all(ray_at, tmp_path):
    import subprocess

    environment = json.dumps({"env_vars": {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}})
    plan = "nodes=2,gpus_per_node=4,gpus=8,trainers=4,engines=4,tp=2,kept=2"
    command = [
        sys.executable,
        "-m",
        "slime_tau2.cli",
        "doctor",
        "--json",
        "--output",
        str(tmp_path),
        "--ray",
        ray_at,
        "--plan",
        plan,
    ]
    done = subprocess.run(
        [*command, "--runtime-env", environment, "--shared", "/nope"], capture_output=True, text=True, timeout=200
    )
    told = json.loads(done.stdout)
    texts = [f["text"] for f in told["findings"] if f["status"] == "fail"]
    assert done.returncode == 1 and any("/nope does not exist" in t for t in texts), done.stdout + done.stderr
