"""Whole searches with real Ray Tune trials and DeepSpeed workers, on a few drawn dishes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.errors import UserError
from components.params import Params, load_params
from components.search.result import FAILED, FINISHED, STOPPED, from_json
from components.search.search import plan
from components.tracking import store
from components.training.journal import VALIDATION_FILE
from components.training.stage import make_job
from components.workspace import home
from pipelines import pretrain, tune
from tests.workspace import prepare_workspace

ROOT = Path(__file__).parents[2]
SPACE = {
    "adapter.rank": {"choice": [2, 4, 8]},
    "finetune.learning_rate.adapter": {"log_uniform": [1e-3, 1e-1]},
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Params]:
    """A workspace in which stage 1 has run; it is the current folder, with a home of its own."""
    folder = tmp_path_factory.mktemp("search")
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEA_HOME", str(folder / "home"))
        params = prepare_workspace(
            folder,
            finetune__epochs=2,
            tune__space=SPACE,
            tune__asha={"grace_epochs": 0.3, "reduction": 2},
            tune__budget={"trials": 4, "hours": 1, "disk_gb": 1},
            tune__report_every_steps=2,
        )
        pretrain.run(params)
        yield params
    os.chdir(before)


@pytest.fixture(autouse=True)
def same_home(searched: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_HOME", str(Path.cwd() / "home"))


TRIALS_TO_KILL = 8


def with_tune(params: Params, **changes: object) -> Params:
    return params.model_copy(update={"tune": params.tune.model_copy(update=changes)})


def test_search_finds_tracks_prunes_and_tells_how_to_apply(searched: Params) -> None:
    tune.run(searched)
    result = json.loads(Path("tune/search.json").read_text(encoding="utf-8"))
    trials = [from_json(entry) for entry in result["trials"]]
    assert len(trials) == 4
    assert {trial.state for trial in trials} <= {FINISHED, STOPPED}
    assert not list(home().glob("searches/*/tune/*/error.txt")), "no trial was started again"
    best = next(trial for trial in trials if trial.number == result["best"])
    assert best.loss == min(trial.loss for trial in trials if trial.state == FINISHED)
    assert trials[0].values["adapter.rank"] == searched.adapter.rank  # the present settings come first
    assert {"validation", "test"} == result["gain"].keys()
    assert {"parallel.svg", "best_so_far.svg", "front.svg"} <= {path.name for path in Path("tune/plots").iterdir()}

    # applied, the best trial's training is found done
    changed = searched.model_copy(
        update={
            "adapter": searched.adapter.model_copy(update={"rank": best.values["adapter.rank"]}),
            "finetune": searched.finetune.model_copy(
                update={
                    "learning_rate": searched.finetune.learning_rate.model_copy(
                        update={"adapter": best.values["finetune.learning_rate.adapter"]}
                    )
                }
            ),
        }
    )
    job = make_job("finetune", changed, changed.finetune, changed.adapter, Path("models/pretrain"))
    assert (job.folder / "parts" / "model.json").exists()
    default = make_job("finetune", searched, searched.finetune, searched.adapter, Path("models/pretrain"))
    assert {run.name for run in (home() / "runs").glob("finetune-*")} == {job.folder.name, default.folder.name}

    client = store.connect()
    runs = client.search_runs([store.experiment_id(client)])
    (parent,) = [run for run in runs if run.info.run_name == "tune"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 4
    states = sorted(run.data.tags["lea.state"] for run in children)
    assert states == sorted(trial.state for trial in trials)
    assert all(client.get_metric_history(run.info.run_id, "validation_loss") for run in children)
    assert all(run.data.metrics["cost.adapter_bytes"] > 0 for run in children)

    with pytest.raises(UserError, match="nothing to resume: a search with these settings is finished"):
        tune.resume(searched)


def test_failing_trial_is_recorded_and_does_not_end_the_search(searched: Params) -> None:
    broken = {"zero_optimization": {"overlap_comm": "perhaps"}}  # DeepSpeed itself refuses it
    space = {"training.deepspeed": {"choice": [{}, broken]}}
    tune.run(with_tune(searched, space=space, search="grid", scheduler="none"))
    trials = [from_json(e) for e in json.loads(Path("tune/search.json").read_text(encoding="utf-8"))["trials"]]
    states = {trial.state: trial for trial in trials}
    assert states.keys() == {FINISHED, FAILED}
    assert states[FAILED].values == {"training.deepspeed": broken}
    assert "a worker failed" in states[FAILED].why
    client = store.connect()
    failed = client.search_runs([store.experiment_id(client)], "attributes.status = 'FAILED'")
    assert [run.data.tags["lea.why"] for run in failed] == [states[FAILED].why]


def test_killed_search_goes_on_without_redoing_what_is_finished(searched: Params) -> None:
    """Killed after its first finished trial, a search has the same trials in the end, the first with the same dates."""
    budget = searched.tune.budget.model_copy(update={"trials": TRIALS_TO_KILL})
    many = with_tune(searched, search="random", scheduler="none", concurrent_trials=1, budget=budget)
    tree = many.model_dump(mode="json")
    import yaml

    Path("params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TUNE_GLOBAL_CHECKPOINT_S": "0.5"}
    command = [sys.executable, "-m", "pipelines.cli", "tune"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if f"trial 3/{TRIALS_TO_KILL}" in line:  # the first has ended: there is one at a time
                break
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    search = plan(load_params())
    assert search.is_begun
    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert f"trial 1/{TRIALS_TO_KILL}" not in done.stdout  # it is not reported again
    trials = json.loads(Path("tune/search.json").read_text(encoding="utf-8"))["trials"]
    assert [trial["state"] for trial in trials] == [FINISHED] * TRIALS_TO_KILL


def test_node_lost_in_the_middle_costs_no_trial(
    searched: Params, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("LEA_HOME", str(own_home))  # no trial is trained yet
    for name, value in (
        ("RAY_health_check_period_ms", "500"),
        ("RAY_health_check_failure_threshold", "2"),
        ("RAY_health_check_initial_delay_ms", "0"),
        ("RAY_health_check_timeout_ms", "1000"),
    ):
        monkeypatch.setenv(name, value)
    params = with_tune(searched, search="random", scheduler="none", seed=5)
    cluster = Cluster(  # a trial's process and one worker fit on each node
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": True, "dashboard_host": "127.0.0.1"}
    )
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", str(cluster.address))
    lost = threading.Event()

    def lose_node() -> None:
        while len(list(home().glob(f"runs/*/{VALIDATION_FILE}"))) < 2:
            time.sleep(0.2)
        cluster.remove_node(node, allow_graceful=False)
        lost.set()

    threading.Thread(target=lose_node, daemon=True).start()
    try:
        tune.run(params)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert lost.is_set()
    trials = json.loads(Path("tune/search.json").read_text(encoding="utf-8"))["trials"]
    assert [trial["state"] for trial in trials] == [FINISHED] * 4
