"""Real Ray workers that die: killed workers, a killed driver, Ctrl-C, a lost node, a full disk."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.chaos import is_worker, results, strike
from components.params import Params
from components.training import stage
from components.training.journal import METRICS_FILE, TIMINGS_FILE, read_journal
from components.training.launcher import launch
from components.workspace import home
from tests.workspace import prepare_workspace

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
EPOCHS = 12


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Params, dict[str, str]]]:
    """Folder, settings, and what an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("survival")
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEA_HOME", str(folder / "calm"))
        params = prepare_workspace(folder, pretrain__epochs=EPOCHS, training__max_failures=5)
        launch(stage.make_job("pretrain", params, params.pretrain, None, None))
    yield folder, params, results(folder, "calm", "pretrain")
    os.chdir(before)


def when(steps: int, act: Callable[[], object]) -> threading.Thread:
    """Do something once so many steps are written down."""

    def wait() -> None:
        while not any(len(read_journal(path)) >= steps for path in home().glob(f"runs/*/{METRICS_FILE}")):
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_killed_workers_are_replaced_and_nothing_changes(
    workspace: tuple[Path, Params, dict[str, str]], own_home: Path
) -> None:
    _, params, calm = workspace

    def kill_one() -> None:
        next(child for child in psutil.Process().children(recursive=True) if is_worker(child)).kill()

    threads = [when(steps, kill_one) for steps in (5, 18)]
    launch(stage.make_job("pretrain", params, params.pretrain, None, None))
    for thread in threads:
        thread.join()
    assert results(own_home.parent, own_home.name, "pretrain") == calm


@pytest.mark.parametrize("kind", ["driver", "ctrl-c"])
def test_stopped_stage_goes_on_when_it_is_run_again(
    workspace: tuple[Path, Params, dict[str, str]], own_home: Path, kind: str
) -> None:
    folder, _, calm = workspace
    command = [sys.executable, "-m", "pipelines.pretrain"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    when(7, lambda: None).join()
    assert strike(process, kind, random.Random(0))
    if kind == "ctrl-c":
        assert process.returncode == 130
    subprocess.run(command, cwd=folder, env=environment, check=True)
    assert results(own_home.parent, own_home.name, "pretrain") == calm


def test_lost_node_costs_the_steps_since_the_last_checkpoint_and_its_return_is_noticed(
    workspace: tuple[Path, Params, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    _, params, _ = workspace
    for name, value in (
        ("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15"),
        ("RAY_health_check_period_ms", "500"),
        ("RAY_health_check_failure_threshold", "2"),
        ("RAY_health_check_initial_delay_ms", "0"),
        ("RAY_health_check_timeout_ms", "1000"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("components.training.launcher.RESIZE_EVERY_S", 5.0)
    monkeypatch.setattr("ray._private.utils.set_sigterm_handler", lambda handler: None)  # a thread starts the new node
    training = params.training.model_copy(update={"min_workers": 1})
    longer = params.pretrain.model_copy(update={"epochs": 600})
    job = stage.make_job("pretrain", params.model_copy(update={"training": training}), longer, None, None)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", str(cluster.address))
    over = threading.Event()

    def return_node() -> None:
        cluster.add_node(num_cpus=1)
        over.wait()  # the node's processes die with the thread that began them

    try:
        lost = when(9, lambda: cluster.remove_node(node, allow_graceful=False))
        back = when(60, return_node)
        launch(job)
        over.set()
        lost.join()
        back.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    lines = read_journal(job.folder / METRICS_FILE)
    assert [line["step"] for line in lines] == list(range(1, lines[-1]["of"] + 1))
    workers = [line["workers"] for line in read_journal(job.folder / TIMINGS_FILE)]
    assert workers[0] == 2
    assert 1 in workers
    assert workers[-1] == 2


@pytest.mark.skipif(
    subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False).returncode != 0,
    reason="a small file system of one's own needs unshare",
)
def test_full_disk_ends_with_one_line_and_keeps_what_was_saved(
    workspace: tuple[Path, Params, dict[str, str]], tmp_path: Path
) -> None:
    folder, _, _ = workspace
    small = tmp_path / "small"
    small.mkdir()
    tracking = f"sqlite:///{tmp_path / 'mlflow.db'}"  # elsewhere: the small disk is for two checkpoints of 80 kB
    script = (
        f"mount -t tmpfs -o size=200k tmpfs {small} && "
        f"{sys.executable} -m pipelines.pretrain; code=$?; ls {small}/runs/*/checkpoints; exit $code"
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LEA_HOME": str(small), "MLFLOW_TRACKING_URI": tracking},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "no space left" in last
    assert "step-" in done.stdout
