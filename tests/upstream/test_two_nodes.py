"""Two nodes, from bare hosts to a resumed run: `launch/node.sh`, Ray, `launch/grpo.sh`, `doctor`, and what becomes of
each thing that is wrong.

The hosts are network namespaces (two_hosts.py), the GPUs are counted only, slime's train_async.py is
`stand_in_train.py`; slime itself, Ray and everything of ours are real. Nothing of any other Ray on this machine is
touched.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
import struct
import sys
import time
from pathlib import Path

import pytest
import two_hosts
from launch_commands import LAUNCH, fake_slime

from slime_tau2.domains.helpdesk import TOKENIZER

ABSENT = next((m for m in ("ray", "aiohttp_cors", "slime", "megatron") if importlib.util.find_spec(m) is None), None)
WHY_NOT = (
    f"{ABSENT} is not installed (pip install 'ray[default]'; slime and Megatron-LM on PYTHONPATH)"
    if ABSENT
    else two_hosts.why_not()
)
pytestmark = [pytest.mark.upstream, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")]
HERE = Path(__file__).parent
SMALL = [
    "GPUS_PER_NODE=2",
    "ACTOR_GPUS=2",
    "POLICY_GPUS=2",
    "USER_GPUS=0",
    "GROUPS_A_ROLLOUT=8",
    "OVER_SAMPLING=8",
    "EVAL_INTERVAL=0",
]
"""The profile `2nodes` on hosts of two GPUs: the first trains, the second serves; the user simulator is a server of its
own.
"""
PROFILE = ["--profile", "2nodes", *(w for s in SMALL for w in ("--set", s))]
RAY = ["--", "--num-cpus", "4", "--object-store-memory", "100000000"]
USER = f"""
import asyncio, sys
sys.path.insert(0, {str(HERE.parent)!r})
from aiohttp import web
from fake_openai import FakeOpenAI
async def main():
    fake = FakeOpenAI([[("check_signal", '{{"line": "L1"}}')], f"The user at {{sys.argv[1]}}."])
    fake.answers = lambda body: [("check_signal", '{{"line": "L1"}}')] if body.get("tools") else f"The user at {{sys.argv[1]}}."
    fake.tells("/v1/models", {{"data": [{{"id": "sim"}}]}})
    runner = web.AppRunner(fake.app)
    await runner.setup()
    await web.TCPSite(runner, sys.argv[1], 30001).start()
    print("serving", flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""
LOOK = """
import json, sys
from pathlib import Path
from slime_tau2.doctor import job
from slime_tau2.doctor.findings import as_line
from slime_tau2.doctor.plan import Plan
question = json.loads(sys.argv[1])
plan = Plan(nodes=2, gpus_per_node=2, gpus=4, trainers=2, engines=2, tp=2)
ask = job.Ask(plan=plan, runtime_env={"env_vars": {"PYTHONPATH": question["path"]}}, folders=tuple(question["folders"]),
              output=Path(question["output"]), user=question["user"], modules=("slime_tau2", "slime"), patience_s=600.0)
print("\\n".join(as_line(f) for f in job.check("http://127.0.0.1:8265", ask)))
"""


class Site:
    """Both hosts, what they share, and the commands that a user would give on each."""

    def __init__(self, head, worker, folder: Path):
        self.head, self.worker, self.folder, self.logs = head, worker, folder, 0
        self.shared = folder / "shared"
        self.ray_folder = Path(f"/tmp/tau2-{os.getpid()}")  # short: Ray's sockets lie in it
        tools = folder / "bin"
        tools.mkdir()
        python = sys.executable
        scripts = {
            "ray": f'exec {python} -m ray.scripts.scripts "$@"',
            "python3": f'exec {python} "$@"',
            "nvidia-smi": "printf 'GPU 0: x\\nGPU 1: x\\n'",
            "slime-tau2": 'words=(); while [ $# -gt 0 ]; do if [ "$1" = --gpus ]; then shift; else words+=("$1"); fi; shift; done\n'
            f'exec {python} -m slime_tau2.cli "${{words[@]}}"',  # torch sees no GPU here
        }
        for name, text in scripts.items():
            (tools / name).write_text(f"#!/bin/bash\n{text}\n")
            (tools / name).chmod(stat.S_IRWXU)
        slime = fake_slime(folder / "slime")
        shutil.copy(HERE / "stand_in_train.py", slime / "train_async.py")
        shutil.copy(HERE / "stand_in_train.py", slime / "train.py")
        (folder / "megatron").mkdir()
        self.shared.mkdir()
        model = folder / "model"  # on every node, as a folder of its own would be
        shutil.copytree(TOKENIZER, model)
        (model / "config.json").write_text(json.dumps({"rope_theta": 5000000.0}))
        header = json.dumps({"t": {"dtype": "BF16", "shape": [10, 10], "data_offsets": [0, 200]}}).encode()
        (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(200))
        self.environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("RAY_", "NCCL_", "GLOO_", "TAU2_", "SLIME_HOST"))
            },
            "PATH": f"{tools}:{os.environ['PATH']}",
            "SLIME_DIR": str(slime),
            "MEGATRON_DIR": str(folder / "megatron"),
            "MODEL_DIR": str(model),
            "USER_MODEL_DIR": str(model),
            "USER_MODEL": "sim",
            "OUTPUT_DIR": str(self.shared / "grpo"),
            "DATA_DIR": str(self.shared / "data"),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "DOCTOR_WAIT_S": "600",
        }

    def log(self) -> Path:
        self.logs += 1
        return self.folder / f"{self.logs}.log"

    def run(self, host, command, hidden=None, **changes) -> tuple[int, str]:
        return host.run([str(w) for w in command], self.log(), {**self.environment, **changes}, hidden)

    def node(self, host, role, *options, hidden=None, **changes) -> tuple[int, str]:
        own = {"HEAD_IP": self.head.address} if role == "worker" else {"IFACE": host.interface}
        temporary = ["--temp-dir", str(self.ray_folder)] if role == "head" else []
        command = ["bash", LAUNCH / "node.sh", role, *PROFILE, *options, *RAY, *temporary]
        return self.run(host, command, hidden, **{**own, **changes})

    def train(self, user, **changes) -> tuple[int, str]:
        url = f"http://{user.address}:30001/v1"
        return self.run(self.head, ["bash", LAUNCH / "grpo.sh", *PROFILE], USER_URL=url, **changes)

    def serve_user(self, host) -> None:
        log = self.log()
        process = host.start([sys.executable, "-c", USER, host.address], log, self.environment)
        wait_for(lambda: "serving" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()

    def look(self, *folders, user="") -> str:
        path = f"{LAUNCH.parent}:{os.environ.get('PYTHONPATH', '')}"
        question = {
            "path": path,
            "folders": [str(f) for f in folders],
            "output": self.environment["OUTPUT_DIR"],
            "user": user,
        }
        _, said = self.run(self.head, [sys.executable, "-c", LOOK, json.dumps(question)])
        return said

    def report(self) -> dict:
        return json.loads((self.shared / "grpo" / "report.json").read_text())


def wait_for(true, patience_s: float = 600.0) -> None:
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with two_hosts.two_hosts() as (head, worker):
        made = Site(head, worker, folder)
        yield made
    shutil.rmtree(made.ray_folder, ignore_errors=True)


def lines(said: str) -> list[str]:
    return [line for line in said.splitlines() if "error: " in line]


def test_what_is_wrong_with_a_node_is_said_before_it_joins(site):
    """Nothing runs yet: each is refused by name, and no Ray is started."""
    for role, host, changes, said in (
        ("head", site.head, {"IFACE": "eth9"}, "IFACE=eth9 is no interface with an address here; there are: "),
        (
            "head",
            site.head,
            {"IFACE": "", "SLIME_HOST_IP": "127.0.0.1"},
            "127.0.0.1 is reached by this machine alone; name the interface",
        ),
        ("worker", site.worker, {}, f"{site.head.address}:6379 does not answer to {site.worker.address} on lan1"),
        ("worker", site.worker, {"HEAD_IP": "10.1.2.3"}, "no route leads to HEAD_IP=10.1.2.3 from here"),
    ):
        code, out = site.node(host, role, **changes)
        assert code == 2 and said in out and len(lines(out)) == 1, out
    code, out = site.node(site.head, "head", "--set", "GPUS_PER_NODE=4")
    assert code == 2 and "this node has 2 GPUs and the profile wants 4 on each of 2" in out, out
    assert not site.head.pids() and not site.worker.pids()


def test_from_bare_hosts_to_a_resumed_run(site):
    code, out = site.node(site.head, "head")
    assert code == 0, out
    code, out = site.node(site.worker, "worker", hidden=site.shared)
    assert code == 2 and f"{site.shared} on {site.worker.address} is not the head's folder" in out, (
        "a folder that is not shared"
    )
    code, out = site.node(site.worker, "worker", IFACE="mgmt0")
    assert code == 2 and f"{site.head.address}:6379 does not answer to 192.168.77.1 on mgmt0" in out, (
        "an interface that leads nowhere"
    )
    code, out = site.node(site.worker, "worker")
    assert code == 0, out
    for run, user in enumerate((site.worker, site.head)):
        site.serve_user(user)
        code, out = site.train(
            user,
            TAU2_USER_CONCURRENCY="7",
            JOB_ENV="MY_SWITCH",
            MY_SWITCH="on",
            WANDB_API_KEY="sekret",
            SLIME_HOST_IP="6.6.6.6",
        )
        assert code == 0, out[-5000:]
        report = site.report()
        assert report["resumed"] == (None if run == 0 else 1) and "sekret" not in out
        assert [s["node"] for s in report["processes"]].count(site.head.address) == 2 and len(report["processes"]) == 4
        for seen in report["processes"]:
            host = next(h for h in (site.head, site.worker) if h.address == seen["node"])
            told = seen["environment"]
            assert seen["announced"] == told["SLIME_HOST_IP"] == host.address, (
                "each announces itself, not the one that submitted"
            )
            assert told["NCCL_SOCKET_IFNAME"] == told["GLOO_SOCKET_IFNAME"] == host.interface
            assert (told["TAU2_USER_CONCURRENCY"], told["MY_SWITCH"], told["WANDB_API_KEY"]) == ("7", "on", None)
            assert seen["missing"] == [] and seen["ours"] == str(LAUNCH.parent / "slime_tau2")
            assert seen["user"] == f"The user at {user.address}.", "the simulator answers from both hosts"
        assert report["sums"] == [11.0, 11.0], "gloo from host to host"


def test_a_worker_that_dies_ends_the_job_with_one_line(site):
    log = site.log()
    changes = {**site.environment, "USER_URL": f"http://{site.head.address}:30001/v1", "TAU2_TEST_HOLD": "1"}
    process = site.head.start(["bash", str(LAUNCH / "grpo.sh"), *PROFILE], log, changes)
    wait_for(lambda: len(list((site.shared / "grpo").glob("holding-*"))) == 4 or process.poll() is not None)
    assert process.poll() is None, log.read_text()[-5000:]
    site.worker.power_off()
    wait_for(lambda: process.poll() is not None)
    said = [line for line in lines(log.read_text()) if "is gone" in line]
    assert process.returncode != 0 and len(said) >= 1, log.read_text()[-5000:]
    assert (
        f"node {site.worker.address} is gone. Ray has 2 GPUs on {site.head.address}, and this run wants 4 on 2 nodes"
        in said[0]
    )


def test_too_few_gpus_are_named_and_never_waited_for(site):
    code, out = site.train(site.head)
    assert code == 2 and "Ray has 2 GPUs" in out and "this run wants 4 on 2 × 2 and would wait for ever" in out, out[
        -3000:
    ]
    assert "launch/node.sh worker on each other" in out
    environment = json.dumps({"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), "NODES_WAIT_S": "5"}})
    entry = Path(site.environment["SLIME_DIR"]) / "train_async.py"
    flags = ["--actor-num-nodes", "1", "--actor-num-gpus-per-node", "2", "--rollout-num-gpus", "2"]
    command = [
        "ray",
        "job",
        "submit",
        "--address",
        "http://127.0.0.1:8265",
        "--runtime-env-json",
        environment,
        "--",
        "python3",
    ]
    code, out = site.run(site.head, [*command, LAUNCH / "on_nodes.py", "2", "4", entry, *flags])
    assert (
        code != 0
        and "after 5 s Ray has 2 GPUs" in out
        and "this run wants 4 on 2 nodes; start the others with launch/node.sh worker" in out
    ), out


def test_what_is_wrong_on_a_node_that_joined_all_the_same_is_named_by_the_doctor(site):
    """A wrong interface, a wrong address and a folder that is not shared, behind node.sh's back."""
    wrong = [
        "env",
        "SLIME_HOST_IP=192.168.77.9",
        "GLOO_SOCKET_IFNAME=eth9",
        "ray",
        "start",
        "--address",
        f"{site.head.address}:6379",
    ]
    command = [*wrong, "--node-ip-address", site.worker.address, "--num-gpus", "2", *RAY[1:]]
    code, out = site.run(site.worker, command, hidden=site.shared)
    assert code == 0, out
    found = site.look(site.shared / "data", user=f"http://{site.worker.address}:30001/v1")
    node = f"fail  node {site.worker.address}: "
    for said in (
        f"{node}GLOO_SOCKET_IFNAME=eth9 is no interface with an address there; it has ",
        f"{node}SLIME_HOST_IP=192.168.77.9 is not that node's address; it has ",
        f"{node}{site.shared / 'data'} does not exist",
        f"{node}{site.environment['OUTPUT_DIR']} is another folder there than here",
        f"{node}the user simulator http://{site.worker.address}:30001/v1 does not answer",
        f"fail  node {site.head.address}: the user simulator http://{site.worker.address}:30001/v1 does not answer",
    ):
        assert said in found, f"{said}\n{found}"
