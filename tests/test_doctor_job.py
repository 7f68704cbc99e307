"""What the doctor says of a run before it starts: arithmetic of a profile, the router's policies, and a look into a Ray
job.

Ray is a stand-in here: it runs the probe's functions in this process, or says what a broken cluster would. The real
one: tests/upstream/test_doctor_in_ray.py.
"""

import json
import os
import shlex
import socket
import struct
import sys
import threading
import types
from pathlib import Path

import pytest
from fake_server import FakeServer
from serving import Serving

from slime_tau2.doctor import installation, job, plan, probe, router
from slime_tau2.doctor.findings import Status, as_line
from slime_tau2.doctor.plan import GIB, Plan
from slime_tau2.doctor.run import Question, examine
from slime_tau2.errors import ConfigError

QWEN3_4B = 4_022_468_096


def shown(found):
    return "\n".join(as_line(f) for f in found)


# --- arithmetic
# ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_and_the_host_memory_of_a_4b():
    assert round(Plan().checkpoint_gib(QWEN3_4B)) == 52
    two = Plan(gpus_per_node=2, gpus=2, trainers=2, engines=2, tp=2, colocate=1)
    assert round(two.host_gib(QWEN3_4B) * GIB / QWEN3_4B, 6) == 2.4 * 2 / 2 + 12, (
        "a copy of the weights a rank, and Adam's state"
    )
    assert round(two.host_gib(QWEN3_4B), 1) == 53.9
    asynchronous = Plan(gpus=8, trainers=4, engines=4, tp=2)
    assert round(asynchronous.host_gib(QWEN3_4B), 1) == 18.0, "nothing is offloaded: the copies of the weights alone"
    assert round(Plan(gpus=8, trainers=4, engines=4, tp=2, cpu_optimizer=1).host_gib(QWEN3_4B), 1) == 83.5
    nodes = Plan(nodes=2, gpus=16, trainers=16, trainer_nodes=2, tp=2, colocate=1)
    assert round(nodes.host_gib(QWEN3_4B), 1) == round(8 / 2 * 2.4 * QWEN3_4B / GIB + 6 * QWEN3_4B / GIB, 1), (
        "each node has its half of Adam"
    )


def test_a_plan_is_read_or_refused():
    assert Plan.parse("nodes=2,tp=4") == Plan(nodes=2, tp=4)
    for bad in ("gpu=1", "tp=x", "tp", "nodes=-1"):
        with pytest.raises(ConfigError, match="--plan"):
            Plan.parse(bad)
    for bad in ("tp=0", "nodes=0", "trainers=0", "trainer_nodes=0", "gpus=0", "gpus_per_node=0", "nodes=²", "tp=1.0"):
        with pytest.raises(ConfigError, match=f"^--plan {bad}: expected .*at least [01]"):
            Plan.parse(f"nodes=2,{bad}" if "nodes" not in bad else bad)
    assert Plan.parse("engines=0,colocate=0,cpu_optimizer=0,kept=0") == Plan(kept=0)


def model(directory: Path, shapes) -> Path:
    directory.mkdir()
    header = json.dumps(
        {
            "__metadata__": {},
            **{f"t{n}": {"dtype": "BF16", "shape": s, "data_offsets": [0, 0]} for n, s in enumerate(shapes)},
        }
    )
    (directory / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    return directory


def test_parameters_come_from_the_files(tmp_path):
    assert plan.parameters(model(tmp_path / "m", [[10, 20], [5]])) == 205
    assert plan.parameters(tmp_path) is None
    (tmp_path / "m" / "b.safetensors").write_bytes(b"\xff" * 20)
    assert plan.parameters(tmp_path / "m") is None, "a broken file is no crash"


@pytest.mark.parametrize("there, kept, new", [(0, 2, 2), (1, 2, 1), (3, 2, 1), (0, 31, 31), (10, 31, 21)])
def test_the_disk_counts_what_lies_there_already(there, kept, new, tmp_path):
    for n in range(there):
        (tmp_path / "checkpoints" / f"iter_{n:07d}").mkdir(parents=True)
    gib, how = plan.disk_gib(Plan(kept=kept), QWEN3_4B, tmp_path)
    assert round(gib) == round(new * 52.45) and f"{new} more" in how


def test_disk_and_memory_that_are_short_are_named(tmp_path, monkeypatch):
    small = model(tmp_path / "m", [[1000, 1000]])
    monkeypatch.setattr(installation.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=int(10 * GIB)))
    monkeypatch.setattr(plan, "parameters", lambda directory: QWEN3_4B)
    found = [f for f in examine(Question(output=tmp_path, models=(small,), plan=Plan(kept=31))) if f.what == "disk"]
    assert found[0].status is Status.FAIL and "31 more checkpoints of 52 GiB" in found[0].text
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal: 104857600 kB\nMemAvailable: 20971520 kB\n")  # 100 and 20 GiB
    colocated = Plan(gpus_per_node=2, gpus=2, trainers=2, engines=2, tp=2, colocate=1)
    assert plan.host_memory(colocated, QWEN3_4B, info, limit).status is Status.WARN
    info.write_text("MemTotal: 104857600 kB\nMemAvailable: 94371840 kB\n")
    assert plan.host_memory(colocated, QWEN3_4B, info, limit).status is Status.OK
    limit.write_text(str(int(60 * GIB)))
    short = plan.host_memory(colocated, QWEN3_4B, info, limit)
    assert short.status is Status.FAIL and "78 GiB wanted" in short.text and "this one has 60" in short.text, (
        "a container's limit"
    )
    assert plan.host_memory(colocated, QWEN3_4B, tmp_path / "no").status is Status.WARN
    alone, with_workers = (Plan(nodes=2, gpus=16, trainers=8, engines=8, workers=n) for n in (0, 3))
    assert with_workers.processes_gib() - alone.processes_gib() == pytest.approx(2 * 0.7), "two of three on one node"


# --- the router
# ------------------------------------------------------------------------------------------------------------

PYPI = ("random", "round_robin", "cache_aware", "power_of_two", "manual")
"""sglang-router 0.3.2's choices."""
FORK = (*PYPI, "consistent_hashing")


def test_the_best_policy_is_one_that_the_router_has(monkeypatch):
    assert (
        router.best(PYPI) == "manual"
        and router.best(FORK) == "consistent_hashing"
        and router.best(None) == "consistent_hashing"
    )
    assert router.best(("random", "cache_aware")) == "cache_aware"
    for choices, wanted, status in (
        (PYPI, "consistent_hashing", Status.FAIL),
        (PYPI, "manual", Status.OK),
        (FORK, "consistent_hashing", Status.OK),
        (PYPI, "random", Status.WARN),
        (None, "manual", Status.WARN),
    ):
        monkeypatch.setattr(router, "policies", lambda choices=choices: choices)
        found = router.check(wanted)
        assert found.status is status, (choices, wanted)
        if status is Status.FAIL:
            assert "--set ROUTER_POLICY=manual" in found.fix


def test_the_installed_routers_own_parser_is_asked(monkeypatch):
    class RouterArgs:
        @staticmethod
        def add_cli_args(parser, use_router_prefix=False, exclude_host_port=False):
            assert use_router_prefix and exclude_host_port
            parser.add_argument("--router-policy", choices=["random", "manual"])

    installed = types.ModuleType("sglang_router.router_args")
    installed.RouterArgs = RouterArgs
    monkeypatch.setitem(sys.modules, "sglang_router", types.ModuleType("sglang_router"))
    monkeypatch.setitem(sys.modules, "sglang_router.router_args", installed)
    assert router.policies() == ("random", "manual")
    monkeypatch.setitem(sys.modules, "sglang_router.router_args", None)
    monkeypatch.setitem(sys.modules, "sglang_router.launch_router", installed)
    assert router.policies() == ("random", "manual"), "an older layout"
    monkeypatch.setitem(sys.modules, "sglang_router.launch_router", None)
    assert router.policies() is None


# --- the job
# ---------------------------------------------------------------------------------------------------------------

NODE = {
    "ip": "10.0.0.1",
    "gpus": 8,
    "host": "a",
    "missing": [],
    "broken": "",
    "differs": [],
    "folders": {},
    "token": True,
    "absent_keys": [],
    "user": "",
}


class Jobs:
    """Ray's job client, without Ray."""

    def __init__(self, logs, status="SUCCEEDED", others=(), message=""):
        self.logs, self.status, self.others, self.message, self.submitted, self.stopped = (
            logs,
            status,
            others,
            message,
            [],
            [],
        )

    def list_jobs(self):
        return [types.SimpleNamespace(submission_id=n, job_id=None, status="RUNNING") for n in self.others]

    def submit_job(self, entrypoint, runtime_env):
        self.submitted.append((entrypoint, runtime_env))
        return "j1"

    def get_job_status(self, job_id):
        return types.SimpleNamespace(value=self.status)

    def get_job_logs(self, job_id):
        return self.logs

    def get_job_info(self, job_id):
        return types.SimpleNamespace(message=self.message)

    def stop_job(self, job_id):
        self.stopped.append(job_id)


def report(*nodes, gpus=8, free=8, cpus=64):
    return (
        "noise\n"
        + probe.MARK
        + json.dumps({"gpus": gpus, "gpus_free": free, "cpus": cpus, "nodes": list(nodes)})
        + "\n"
    )


def test_the_job_is_sent_with_the_runs_own_environment(tmp_path):
    environment = {"env_vars": {"PYTHONPATH": "/m:/s", "TAU2_DATA_DIR": "/d"}}
    jobs = Jobs(report(NODE))
    ask = job.Ask(
        plan=Plan(),
        runtime_env=environment,
        folders=("/m",),
        output=tmp_path / "out",
        keys=("WANDB_API_KEY",),
        user="http://u/v1",
    )
    found = job.examine(jobs, ask)
    assert [f.status for f in found] == [Status.OK, Status.OK], shown(found)
    ((entry, sent),) = jobs.submitted
    python, flag, script, question = shlex.split(entry)
    assert sent == environment and (python, flag) == ("python3", "-P") and Path(script) == Path(probe.__file__)
    asked = json.loads(question)
    assert (
        asked["variables"] == environment["env_vars"]
        and asked["keys"] == ["WANDB_API_KEY"]
        and asked["user"] == "http://u/v1"
    )
    assert Path(asked["token"]).parent == tmp_path / "out" and not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    "change, said",
    [
        ({"missing": ["slime"]}, "slime cannot be imported in the job"),
        ({"broken": "tau2 retail: /d is absent"}, "/d is absent; bash launch/setup.sh on that node; TAU2_DATA_DIR"),
        ({"differs": ["NCCL_SOCKET_IFNAME"]}, "NCCL_SOCKET_IFNAME did not arrive"),
        ({"folders": {"/models": "does not exist"}}, "/models does not exist; training reads it there"),
        (
            {"token": False},
            "checkpoints would be scattered, and a resume start anew; OUTPUT_DIR on a file system that all nodes mount",
        ),
        (
            {"absent_keys": ["WANDB_API_KEY"]},
            "WANDB_API_KEY is not in the job's environment; export WANDB_API_KEY before `ray start` there",
        ),
        (
            {"network": ["GLOO_SOCKET_IFNAME=eth9 is no interface"]},
            "GLOO_SOCKET_IFNAME=eth9 is no interface; IFACE or NODE_IP of that node's",
        ),
        (
            {"user": "does not answer (refused)"},
            "does not answer (refused) from there, where episodes may run; USER_HOST=0.0.0.0",
        ),
    ],
)
def test_what_one_node_lacks_is_named_by_its_address(change, said):
    told = json.loads(
        report(NODE, NODE | {"ip": "10.0.0.2"} | change, gpus=16, free=16).splitlines()[1].removeprefix(probe.MARK)
    )
    (found,) = job.inside(told, job.Ask(plan=Plan(nodes=2, gpus=16), runtime_env={}, user="http://u/v1"))
    assert found.status is Status.FAIL and found.what == "node 10.0.0.2" and said in as_line(found)


def test_a_node_that_cannot_even_run_a_task():
    told = {"nodes": [{"ip": "10.0.0.2", "gpus": 8, "error": "NodeDiedError: gone"}]}
    (found,) = job.inside(told, job.Ask(plan=Plan(), runtime_env={}))
    assert found.status is Status.FAIL and "NodeDiedError: gone" in found.text


@pytest.mark.parametrize(
    "gpus, free, cpus, nodes, running, status, said",
    [
        ([8], 8, 64, 1, [], Status.OK, "8 (10.0.0.0: 8), 8 free; 8 wanted"),
        (
            [2],
            2,
            64,
            1,
            [],
            Status.FAIL,
            "Ray has 2 GPUs (10.0.0.0: 2); this run wants 8 on 1 × 8 and would wait for ever",
        ),
        ([4, 4], 8, 64, 1, [], Status.FAIL, "would wait for ever"),
        ([8], 8, 64, 2, [], Status.FAIL, "launch/node.sh worker on each other"),
        (
            [8],
            3,
            64,
            1,
            ["run-1"],
            Status.WARN,
            "3 of 8 are free and this run wants 8: it will wait without a word; ray job stop run-1",
        ),
        ([8], 8, 8, 1, [], Status.FAIL, "Ray has 8, and slime's actors ask for 10"),
        ([16], 16, 64, 1, ["run-1"], Status.WARN, "run-1 not ended yet"),
    ],
)
def test_rays_gpus_and_cpus_against_the_plan(gpus, free, cpus, nodes, running, status, said):
    told = {
        "gpus": sum(gpus),
        "gpus_free": free,
        "cpus": cpus,
        "nodes": [{"ip": f"10.0.0.{n}", "gpus": g} for n, g in enumerate(gpus)],
    }
    found = job.cluster(told, Plan(nodes=nodes, gpus_per_node=8, gpus=8 * nodes), running)
    assert status in {f.status for f in found} and said in shown(found), shown(found)


@pytest.mark.parametrize("cpus, status", [(13, Status.FAIL), (14, Status.OK)])
def test_workers_take_a_cpu_of_ray_each(cpus, status):
    told = {"gpus": 8, "gpus_free": 8, "cpus": cpus, "nodes": [{"ip": "10.0.0.0", "gpus": 8}]}
    found = job.cluster(told, Plan.parse("gpus=8,workers=4"), [])
    assert {f.status for f in found} | {Status.OK} == {status, Status.OK}, shown(found)
    if status is Status.FAIL:
        assert "Ray has 13, and slime's actors ask for 10, tau2_workers for 4 more" in shown(found)


def test_a_job_that_ends_without_a_report_is_one_line(tmp_path):
    (found,) = job.examine(
        Jobs("Traceback…\nModuleNotFoundError: No module named 'ray'\n", "FAILED"), job.Ask(plan=Plan(), runtime_env={})
    )
    assert found.status is Status.FAIL and "No module named 'ray'" in found.text and "ray job logs j1" in found.fix
    (found,) = job.examine(Jobs("", "FAILED", message="a\nthe supervisor died"), job.Ask(plan=Plan(), runtime_env={}))
    assert "ended as FAILED, and said last: the supervisor died" in found.text
    hangs = Jobs("", "RUNNING")
    (found,) = job.examine(hangs, job.Ask(plan=Plan(), runtime_env={}, output=tmp_path, patience_s=0.0))
    assert "did not end within 0 s" in found.text and hangs.stopped == ["j1"] and not list(tmp_path.iterdir())


def test_without_ray_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    (found,) = job.check("http://127.0.0.1:1", job.Ask(plan=Plan(), runtime_env={}))
    assert found.status is Status.FAIL and "ray is not installed here" in found.text


def test_what_the_probe_sees(monkeypatch, tmp_path):
    fake = FakeServer({})
    fake.tells("/v1/models", {"data": []})
    monkeypatch.setenv("HERE", "1")
    question = {
        "modules": ["json", "no_such", "json.no_such", "no.such"],
        "hooks": False,
        "variables": {"HERE": "1", "PATH": "x", "GONE": "y"},
        "folders": [str(tmp_path), str(tmp_path / "no")],
        "token": str(tmp_path / "no"),
        "keys": ["HERE", "GONE"],
        "user": "",
        "user_key": "K",
    }
    with Serving(fake):
        url = f"{fake.url.removesuffix('/v1')}/v1"
        saw = probe.look(question | {"user": url})
        assert saw["user"] == "" and probe.reach(f"{url}/no", "K").startswith("HTTP 4")
    assert (
        saw["missing"] == ["no_such", "json.no_such", "no.such"]
        and saw["differs"] == ["GONE", "PATH"]
        and saw["absent_keys"] == ["GONE"]
    )
    assert saw["folders"] == {str(tmp_path): "", str(tmp_path / "no"): "does not exist"} and saw["token"] is False
    assert "does not answer" in probe.reach("http://127.0.0.1:9/v1", "K") and "does not answer" in probe.reach(
        "nonsense", "K"
    )


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]
)
def test_the_probe_asks_a_port_that_does_not_speak_http(said):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            talk, _ = server.accept()
            with talk:
                talk.recv(4096)
                talk.sendall(said)

        speaker = threading.Thread(target=answer, daemon=True)
        speaker.start()
        assert probe.reach(f"http://127.0.0.1:{server.getsockname()[1]}/v1", "K").startswith("does not answer (")
        speaker.join(10)


def test_the_probe_imports_the_hooks_and_finds_tau2s_data(monkeypatch):
    assert probe.imports() == ""
    with monkeypatch.context() as patch:
        patch.setattr(installation.vintage, "locations", lambda name: [])
        assert "tau2: " in probe.imports()
    monkeypatch.setitem(sys.modules, "slime_tau2.hooks.data_source", None)
    monkeypatch.delattr(sys.modules["slime_tau2.hooks"], "data_source")
    assert "the hooks cannot be imported: " in probe.imports()


def test_the_probe_needs_nothing_of_ours_to_start():
    """On a node where the package is absent it must still report."""
    text = Path(probe.__file__).read_text()
    head = text.partition("\ndef ")[0]
    assert "slime_tau2 import" not in head and "import slime_tau2" not in head
    assert os.path.isabs(probe.__file__)
