"""Several nodes, as far as one can tell: who is counted, whose address is announced, what a node refuses before it
joins.

Two nodes for real, as network namespaces: tests/upstream/test_two_nodes.py.
"""

import importlib.util
import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from launch_commands import LAUNCH, commands, fake_slime, launch

from slime_tau2.doctor import network


def by_path(name):
    spec = importlib.util.spec_from_file_location(name, LAUNCH / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


on_nodes, runtime_env = by_path("on_nodes"), by_path("runtime_env")


# --- who counts the nodes
# ------------------------------------------------------------------------------------------------------


def node(number, gpus=8, alive=True):
    return {
        "NodeID": f"n{number}",
        "NodeManagerAddress": f"10.0.0.{number}",
        "Alive": alive,
        "Resources": {"GPU": gpus} if gpus else {},
    }


def test_nodes_that_do_not_come_end_the_job_and_those_that_do_are_waited_for():
    count = on_nodes.Count(2, 16, wait_s=10.0, started_s=0.0)
    assert count.trouble([node(1)], 9.0) == "" and count.trouble([node(1), node(2, 4)], 9.9) == ""
    late = count.trouble([node(1), node(2, 4)], 10.1)
    assert late.startswith(
        "after 10 s Ray has 12 GPUs on 10.0.0.1, 10.0.0.2, and this run wants 16 on 2 nodes; start the others with launch/node.sh"
    )
    assert count.trouble([node(1), node(2)], 10.2) == "" and count.trouble([node(1), node(2)], 1e6) == ""


def test_a_node_that_goes_ends_the_job_even_if_it_comes_back():
    count = on_nodes.Count(2, 16, 10.0, 0.0)
    assert count.trouble([node(1), node(2)], 1.0) == ""
    gone = count.trouble([node(1), node(2, alive=False)], 2.0)
    assert (
        gone.startswith("node 10.0.0.2 is gone. Ray has 8 GPUs on 10.0.0.1")
        and "run the same command: it resumes" in gone
    )
    back = {**node(2), "NodeID": "n9"}
    assert count.trouble([node(1), node(2, alive=False), back], 3.0).startswith("node 10.0.0.2 is gone"), (
        "its actors are lost"
    )


def test_nodes_that_the_run_cannot_be_on_may_go():
    """A node without GPUs, and one that came when the run had all it wants."""
    count = on_nodes.Count(2, 16, 10.0, 0.0)
    assert count.trouble([node(0, 0), node(1), node(2)], 1.0) == ""
    assert count.trouble([node(0, 0), node(1), node(2), node(3)], 2.0) == ""
    assert count.trouble([node(0, 0, False), node(1), node(2), node(3, alive=False)], 3.0) == ""


@pytest.mark.parametrize("dead", [1, 2, 3])
def test_with_a_spare_node_any_that_goes_ends_the_job(dead):
    """Which of three a run of two is on, nobody says."""
    count = on_nodes.Count(2, 16, 10.0, 0.0)
    assert count.trouble([node(n) for n in (1, 2, 3)], 1.0) == ""
    gone = count.trouble([node(n, alive=n != dead) for n in (1, 2, 3)], 2.0)
    assert gone.startswith(f"node 10.0.0.{dead} is gone. Ray has 16 GPUs on ")


@pytest.mark.parametrize(
    "text, code, said",
    [
        ("import sys; print(sys.argv, __name__, sys.path[0])", 0, "'--x', '1'] __main__ "),
        ("raise SystemExit(7)", 7, ""),
        (
            "raise ValueError('bad flag')",
            1,
            "error: ValueError; the lines above say where. The same launch command resumes",
        ),
    ],
)
def test_the_entry_runs_as_if_it_were_started_itself(text, code, said, tmp_path):
    (tmp_path / "train.py").write_text(text)
    command = [sys.executable, str(LAUNCH / "on_nodes.py"), "2", "16", str(tmp_path / "train.py"), "--x", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code and said in done.stdout + done.stderr
    assert code or str(tmp_path) in done.stdout


# --- whose address
# --------------------------------------------------------------------------------------------------------------


def test_one_nodes_address_is_given_to_no_other(tmp_path):
    """A job's environment is the same on every node: with SLIME_HOST_IP in it, each would announce the submitter's
    address.
    """
    here = {"SLIME_HOST_IP": "10.0.0.1", "NCCL_SOCKET_IFNAME": "eth0"}
    passed, told = runtime_env.environment({}, here | {"NODES": "2"})
    assert (
        passed == {"NCCL_SOCKET_IFNAME": "eth0"}
        and "SLIME_HOST_IP is one node's own" in told[0]
        and not told[0].startswith("error")
    )
    assert runtime_env.environment({}, here | {"NODES": "1"})[0] == here
    for profile, there in (("2nodes", False), ("8gpu", True)):
        done = launch(
            "grpo", "--profile", profile, "--dry-run", SLIME_DIR=str(fake_slime(tmp_path)), SLIME_HOST_IP="10.0.0.1"
        )
        (command,) = commands(done.stdout)
        assert ("SLIME_HOST_IP" in json.loads(command[command.index("--runtime-env-json") + 1])["env_vars"]) is there


@pytest.mark.parametrize(
    "variable, value, meant",
    [
        ("NCCL_SOCKET_IFNAME", "eth", ["eth0", "eth1"]),
        ("NCCL_SOCKET_IFNAME", "=eth", []),
        ("NCCL_SOCKET_IFNAME", "=eth1", ["eth1"]),
        ("NCCL_SOCKET_IFNAME", "^eth,lo", ["ib0"]),
        ("GLOO_SOCKET_IFNAME", "eth", []),
        ("GLOO_SOCKET_IFNAME", "ib0,eth1", ["ib0", "eth1"]),
    ],
)
def test_what_an_interface_variable_means(variable, value, meant):
    assert network.matching(variable, value, ["lo", "eth0", "eth1", "ib0"]) == meant


def test_this_machines_interfaces():
    assert network.interfaces()["lo"] == "127.0.0.1" and network.towards("127.0.0.1") == "127.0.0.1"
    assert network.is_own("127.0.0.1") and not network.is_own("192.0.2.77")


def test_a_nodes_own_settings_are_checked(monkeypatch):
    monkeypatch.setattr(network, "interfaces", lambda: {"lo": "127.0.0.1", "eth0": "10.9.9.9"})
    monkeypatch.setattr(network, "is_own", lambda address: address in ("127.0.0.1", "10.9.9.9"))
    for variable in network.IFACE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SLIME_HOST_IP", "10.9.9.9")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    assert network.wrong(True) == []
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    monkeypatch.setenv("SLIME_HOST_IP", "10.1.1.1")
    interface, address = network.wrong(True)
    assert (
        interface == "GLOO_SOCKET_IFNAME=eth7 is no interface with an address there; it has lo 127.0.0.1, eth0 10.9.9.9"
    )
    assert address.startswith("SLIME_HOST_IP=10.1.1.1 is not that node's address")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setenv("SLIME_HOST_IP", "127.0.0.1")
    assert (
        "slime would announce 127.0.0.1, which no other node reaches" in network.wrong(True)[0]
        and network.wrong(False) == []
    )


def test_nodes_try_to_reach_each_other(monkeypatch):
    monkeypatch.setenv("SLIME_HOST_IP", "127.0.0.1")
    monkeypatch.setattr(network, "CONNECT_S", 1.0)
    listener = network.Listener()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        closed = silent.getsockname()
    assert network.unreachable([listener.where()]) == []
    (line,) = network.unreachable([listener.where(), closed])
    assert line.startswith(f"127.0.0.1:{closed[1]} (") and "refused" in line
    listener.close()


# --- what a node refuses before it joins
# ------------------------------------------------------------------------------------------


@pytest.fixture
def ready(tmp_path):
    """The settings of a node that has everything; Ray and the GPUs are stand-ins that say what they were asked."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {
        "ray": 'echo "ray $* [$SLIME_HOST_IP $NCCL_SOCKET_IFNAME $GLOO_SOCKET_IFNAME]"',
        "nvidia-smi": "printf 'GPU 0: x\\nGPU 1: x\\n'",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(stat.S_IRWXU)
    (tmp_path / "lib" / "slime").mkdir(parents=True)
    (tmp_path / "lib" / "slime" / "__init__.py").write_text("")
    for name in ("slime", "megatron", "model", "shared"):
        (tmp_path / name).mkdir()
    return {
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLIME_DIR": str(tmp_path / "slime"),
        "MEGATRON_DIR": str(tmp_path / "megatron"),
        "MODEL_DIR": str(tmp_path / "model"),
        "USER_MODEL_DIR": str(tmp_path / "model"),
        "OUTPUT_DIR": str(tmp_path / "shared" / "grpo"),
        "DATA_DIR": str(tmp_path / "shared" / "data"),
        "NODE_IP": "127.0.0.1",
        "PYTHONPATH": str(tmp_path / "lib"),
    }


TWO = ("--set", "GPUS_PER_NODE=2")


def test_a_head_marks_what_is_shared_and_a_worker_finds_it(ready, tmp_path):
    """On one machine the only address is the loopback one, so that the head's is the worker's own."""
    with socket.socket() as gcs:
        gcs.bind(("127.0.0.1", 0))
        gcs.listen()
        here = ready | {"RAY_PORT": str(gcs.getsockname()[1]), "HEAD_IP": "127.0.0.1"}
        head = launch("node", "head", *TWO, **here)
        assert head.returncode == 0 and "--head" in head.stdout and "[127.0.0.1 lo lo]" in head.stdout, head.stderr
        assert (tmp_path / "shared" / ".slime_tau2_head").read_text() == "127.0.0.1\n" and "--num-gpus 2" in head.stdout
        worker = launch("node", "worker", *TWO, "--", "--block", **here)
        assert (
            worker.returncode == 0
            and f"--address 127.0.0.1:{here['RAY_PORT']} --block [127.0.0.1 lo lo]" in worker.stdout
        ), worker.stderr
        own = launch("node", "worker", *TWO, NCCL_SOCKET_IFNAME="ib0", **here)
        assert "[127.0.0.1 ib0 lo]" in own.stdout, "what somebody set is kept"
        (tmp_path / "shared" / ".slime_tau2_head").write_text("10.0.0.9\n")
        assert "names the head 10.0.0.9, and HEAD_IP is 127.0.0.1" in launch("node", "worker", *TWO, **here).stderr
        (tmp_path / "shared" / ".slime_tau2_head").unlink()
        lacks = launch("node", "worker", *TWO, **here)
        assert (
            lacks.returncode == 2
            and "is not the head's folder, which has a file .slime_tau2_head in it: mount it" in lacks.stderr
        )


@pytest.mark.parametrize(
    "role, change, said",
    [
        ("head", {"IFACE": "eth77"}, "IFACE=eth77 is no interface with an address here; there are: lo 127.0.0.1"),
        ("head", {"NODE_IP": "192.0.2.77"}, "NODE_IP=192.0.2.77 is no address of this machine"),
        ("head", {}, "127.0.0.1 is reached by this machine alone; name the interface to the other nodes as IFACE"),
        ("head", {"HEAD_IP": "127.0.0.1", "GPUS": "8"}, "this node has 2 GPUs and the profile wants 8 on each of 1"),
        (
            "head",
            {"HEAD_IP": "127.0.0.1", "MODEL_DIR": "/nope"},
            "MODEL_DIR=/nope does not exist; bash launch/prepare.sh, on this node or",
        ),
        (
            "head",
            {"HEAD_IP": "127.0.0.1", "PYTHONPATH": ""},
            "slime_tau2 or slime cannot be imported on this node: bash launch/setup.sh",
        ),
        ("worker", {"HEAD_IP": ""}, "HEAD_IP is not set"),
        ("worker", {"HEAD_IP": "127.0.0.1", "RAY_PORT": "9"}, "127.0.0.1:9 does not answer to 127.0.0.1 on lo ("),
    ],
)
def test_what_is_not_right_is_one_line_before_ray_starts(role, change, said, ready):
    gpus = change.get("GPUS", "2")
    if importlib.util.find_spec("slime") is not None and "PYTHONPATH" in change:
        pytest.skip("slime is installed here")
    done = launch("node", role, "--set", f"GPUS_PER_NODE={gpus}", **ready | change)
    assert done.returncode == 2 and not done.stdout and said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("error: ")


def test_profiles_have_the_workers_that_the_arithmetic_gives(monkeypatch):
    """And docs/multinode.md shows what the script prints for the figure that it names."""
    root = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(root / "tests" / "bench")
    import workers_needed

    text = (root / "docs" / "multinode.md").read_text(encoding="utf-8")
    (turn_ms,) = re.findall(r"workers_needed\.py --turn-ms ([\d.]+)`", text)
    table = workers_needed.table(float(turn_ms))
    assert table in text
    for line in table.splitlines()[2:]:
        *_, needed, given = (cell.strip() for cell in line.strip("|").split("|"))
        assert needed == given, line
    assert workers_needed.numbers(workers_needed.PROFILES / "8nodes.sh")["WORKERS"] == 4
