from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from components import cluster
from components.errors import UserError

START = "import ray; from components.cluster import start_ray; start_ray(1, {}); print(ray.cluster_resources()['CPU'])"


@pytest.mark.slow
def test_a_cluster_that_others_began_here_is_not_joined() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # Ray's sockets want a short path
        trace = Path(folder, "ray", "ray_current_cluster")  # what `ray start` leaves, whether or not it still runs
        trace.parent.mkdir()
        trace.write_text("127.0.0.1:1", encoding="utf-8")
        without = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment = {**without, "RAY_TMPDIR": folder, "PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run(
            [sys.executable, "-c", START], env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 1


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1: connection refused; start it, or unset"),
        ("ray://127.0.0.1:1", "no Ray cluster answers at RAY_ADDRESS=ray://127.0.0.1:1: connection refused"),
        ("a..b:6379", "no Ray cluster answers at RAY_ADDRESS=a..b:6379: that is no name of a host"),
        (f"{'a' * 70}.b:6379", f"no Ray cluster answers at RAY_ADDRESS={'a' * 70}.b:6379: that is no name of a host"),
        ("head", "RAY_ADDRESS must be HOST:PORT, got 'head'"),
        ("head:0", "RAY_ADDRESS must be HOST:PORT, got 'head:0'"),
        ("head:66000", "RAY_ADDRESS must be HOST:PORT, got 'head:66000'"),
        ("http://head/", "RAY_ADDRESS must be HOST:PORT, got 'http://head/'"),
    ],
)
def test_a_dead_cluster_is_named_at_once(address: str, line: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        cluster.check_cluster(address)
    assert str(caught.value).startswith(line)
    assert time.monotonic() - started < 5


def test_what_listens_but_is_no_ray_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "ANSWER_WITHIN_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UserError, match="what listens there does not answer as Ray does"):
            cluster.check_cluster(f"127.0.0.1:{silent.getsockname()[1]}")


PORTS = """
import sys, threading, time
import psutil
from components.params import load_params
from components.training import launcher

def work(_):
    import time
    import torch
    time.sleep(4)
    torch.distributed.all_reduce(torch.ones(1))

seen = set()
def watch():
    me = psutil.Process()
    while True:
        for process in [me, *me.children(recursive=True)]:
            try:
                seen.update((process.name(), c.laddr.ip) for c in process.net_connections() if c.status == "LISTEN")
            except psutil.Error:
                pass  # it has just ended
        time.sleep(0.3)

threading.Thread(target=watch, daemon=True).start()
with launcher.ray_session(load_params().training):
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from components.training.rendezvous import process_group
    TorchTrainer(
        work,
        train_loop_config={},
        torch_config=process_group("gloo"),
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=sys.argv[1]),
    ).fit()
print(len(seen), sorted(one for one in seen if one[1] not in ("127.0.0.1", "::ffff:127.0.0.1", "::1")))
"""


@pytest.mark.slow
def test_a_local_run_listens_on_the_loopback_interface_alone(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", PORTS, str(tmp_path)],
        cwd=root,
        env=environment | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    count, others = done.stdout.strip().splitlines()[-1].split(" ", 1)
    assert int(count) > 5
    assert others == "[]"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("AuthenticationError", "and this machine do not agree on a token .*set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"),
        ("ConnectionError", "no Ray cluster answers at RAY_ADDRESS=head:6379: refused; start it"),
    ],
)
def test_a_token_that_is_refused_is_no_missing_cluster(error: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.exceptions import AuthenticationError

    def refuse(**_: object) -> None:
        raise AuthenticationError("token missing") if error == "AuthenticationError" else ConnectionError("refused")

    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(cluster, "check_cluster", lambda address: None)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(UserError, match=line):
        cluster.start_ray(1, {})


def test_workers_of_this_machine_import_from_where_this_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they end at the first import, and Ray starts them again and again without a word."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/opt/site", "here", ""]))
    path = cluster.worker_environment(use_gpu=False, threads=1)["PYTHONPATH"].split(os.pathsep)
    assert path == [str(cluster.PACKAGE_ROOT), "/opt/site", str(Path("here").absolute())]


def test_a_wrong_storage_ends_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("LEA_STORAGE", "bucket/lea")
    monkeypatch.setattr(ray, "init", lambda **given: pytest.fail("Ray was started"))
    with pytest.raises(UserError, match="LEA_STORAGE must be a URL"):
        cluster.start_ray(1, {})


def test_workers_of_a_cluster_get_our_code_and_no_path_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    sent: dict[str, Any] = {}
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("LEA_STORAGE", "s3://bucket/lea")
    monkeypatch.setattr(cluster, "check_cluster", lambda address: None)
    monkeypatch.setattr(ray, "init", lambda **given: sent.update(given))
    cluster.start_ray(1, cluster.worker_environment(use_gpu=False, threads=1))
    variables = sent["runtime_env"]["env_vars"]
    assert "PYTHONPATH" not in variables
    assert variables["LEA_STORAGE"] == "s3://bucket/lea"
    assert [Path(place).name for place in sent["runtime_env"]["py_modules"]] == ["components", "pipelines"]
    sent.clear()
    cluster.start_ray(1, {}, on_disk=True)  # what works on this machine's files stays here
    assert sent["address"] == "local"


def test_a_lost_node_is_one_line_and_no_page_of_its_logs(capsys: pytest.CaptureFixture[str]) -> None:
    from ray._private import worker

    message = (
        "The node with node id: 8f and address: 10.9.0.2 and node name: 10.9.0.2 has been marked dead because ..\n"
    )
    before = worker.print_to_stdstream
    try:
        cluster._say_of_nodes_only_what_matters()
        for line in ("Raylet is terminated. Last 20 lines of the Raylet logs:\n - num bytes", message):
            worker.print_to_stdstream({"lines": [line], "pid": "raylet"}, ignore_prefix=False)  # pyright: ignore
    finally:
        worker.print_to_stdstream = before
    assert capsys.readouterr().out == "cluster: the node 10.9.0.2 was lost\n"
