"""infra/slurm/lea.sbatch with stand-ins for srun and scontrol and a real Ray of two nodes.

All of it in a network namespace that has the loopback interface alone: `ray start` listens on all addresses.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "infra/slurm/lea.sbatch"
SRUN = """#!/usr/bin/env bash
# Runs the command here, once, as srun does on a node, and notes how it was called.
echo "srun $*" >> "$CALLS"
while [[ $1 == --* ]]; do
    case $1 in --nodelist=*) node=${1#*=};; esac
    shift
done
case "$*" in
    "hostname --ip-address") echo "::1 127.0.1.1"; exit;;
    "hostname --all-ip-addresses") echo "10.9.0.1 fd00::1"; exit;;
esac
if [ "$node" = "$MISSING" ]; then echo "no such node" >&2; exit 1; fi
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1 $2" = "show hostnames" ] && printf '%s\\n' node-1 node-2
"""
NODES = """
import os, subprocess, sys, ray
ray.init(address="auto", log_to_driver=False)
print("nodes", len(ray.nodes()), "cpus", ray.cluster_resources()["CPU"])
print("address", os.environ["RAY_ADDRESS"], "mode", os.environ["RAY_AUTH_MODE"])
print("answer", ray.get(ray.remote(lambda: 6 * 7).remote()))
ray.shutdown()
stranger = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
code = "import ray; ray.init(address='auto', log_to_driver=False); print('let in')"
done = subprocess.run([sys.executable, "-c", code], env=stranger, capture_output=True, text=True, timeout=60)
print("stranger", "let in" in done.stdout, "AuthenticationError" in done.stderr or "Unauthenticated" in done.stderr)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    probe = subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("no network namespace may be made here")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    ray = Path(sys.executable).with_name("ray")
    if not ray.exists():  # the packages are another environment's
        ray.write_text(f"#!{sys.executable}\nfrom ray.scripts.scripts import main\nmain()\n")
        ray.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_", "LEA_"))}
    return {
        **kept,
        "PATH": f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(tmp_path),
        "TMPDIR": "/tmp",
        "CALLS": str(tmp_path / "calls"),
        "MISSING": "",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_CPUS_PER_TASK": "1",
    }


def start(environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    shell = 'ip link set lo up && ip address add 10.9.0.1/32 dev lo && exec bash "$@"'
    command = [
        "unshare",
        "-rn",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        shell,
        "sh",
        str(SCRIPT),
    ]
    return subprocess.Popen(
        [*command, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_ray_comes_up_on_all_nodes_and_the_command_runs_on_it(environment: dict[str, str]) -> None:
    process = start(environment, "python", "-c", NODES)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "nodes 2 cpus 2.0" in out
    assert "address 10.9.0.1:24242 mode token" in out
    assert "answer 42" in out
    assert "stranger False True" in out
    calls = Path(environment["CALLS"]).read_text()
    assert "--nodelist=node-1 --overlap ray start --block" in calls
    assert "--nodelist=node-2 --overlap ray start --block" in calls
    assert "TOKEN" not in calls
    assert not list(Path(environment["HOME"]).rglob("auth_token"))


def test_a_node_that_does_not_come_ends_the_job_with_its_reason(environment: dict[str, str]) -> None:
    process = start({**environment, "MISSING": "node-2", "LEA_SLURM_WAIT_S": "20"}, "python", "-c", "print('ran')")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: only 1 of 2 nodes joined Ray within 20 s" in err
    assert "ran" not in out


def test_a_warning_of_slurm_ends_it_in_time(environment: dict[str, str], tmp_path: Path) -> None:
    flag = tmp_path / "runs"
    code = f"import pathlib, time; pathlib.Path({str(flag)!r}).touch(); time.sleep(600)"
    process = start(environment, "python", "-c", code)
    until = time.monotonic() + 120
    while not flag.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    assert flag.exists()
    # to bash itself, as --signal=B:TERM does
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    began = time.monotonic()
    os.kill(int(children[0]), signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert "the same sbatch goes on where this one was" in err
    assert time.monotonic() - began < 45


def test_it_says_what_is_missing(environment: dict[str, str]) -> None:
    without = {name: value for name, value in environment.items() if name != "SLURM_SUBMIT_DIR"}
    process = start(without)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "this script is run by sbatch" in err
