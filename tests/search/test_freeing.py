"""A trial that Ray Tune stops gives the CPUs of its workers back, so that the next one can begin."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from components.cluster import start_ray
from components.search.capacity import TRIAL_CPUS
from components.training.launcher import QUICK_START, worker_environment


@pytest.mark.slow
def test_stopped_trial_frees_its_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (QUICK_START | {"RAY_AIR_NEW_OUTPUT": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_GCS_SERVER_PORT", "0")  # start_ray settles it; put back afterwards
    import ray
    from ray import tune
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    start_ray(2, worker_environment(use_gpu=False, threads=1), dashboard=True)
    try:
        cpus = ray.cluster_resources()["CPU"]

        def work(config: dict[str, str]) -> None:
            Path(config["mark"]).touch()
            time.sleep(120)

        def trial(config: dict[str, Any]) -> None:
            mark = tmp_path / f"{tune.get_context().get_trial_id()}.begun"
            trainer = DataParallelTrainer(
                work,
                train_loop_config={"mark": str(mark)},
                scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": cpus - 1}),  # no two at once
                run_config=RunConfig(
                    name=mark.stem, storage_path=str(tmp_path / "train"), failure_config=FailureConfig(max_failures=0)
                ),
            )
            threading.Thread(target=trainer.fit, daemon=True).start()
            while not mark.exists():
                time.sleep(0.1)
            tune.report({"loss": 1.0})
            time.sleep(120)

        results = tune.Tuner(
            tune.with_resources(trial, {"cpu": TRIAL_CPUS}),
            tune_config=tune.TuneConfig(num_samples=2, max_concurrent_trials=1, time_budget_s=40),
            run_config=tune.RunConfig(
                name="tune", storage_path=str(tmp_path / "state"), stop={"training_iteration": 1}, verbose=0
            ),
        ).fit()
        assert [(result.metrics or {}).get("training_iteration") for result in results] == [1, 1]
    finally:
        ray.shutdown()
