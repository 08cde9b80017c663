"""Runs on real Ray nodes that share no disk with the driver nor with each other, only an S3 store (moto's server)."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.digests import file_digest
from tests import hidden_nodes
from tests.hidden_nodes import ROOT, run_scenario, set_param
from tests.workspace import prepare_workspace, small_params

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(not hidden_nodes.can_hide(), reason=hidden_nodes.HIDDEN),
]
SPACE = {"adapter.rank": {"choice": [2, 4]}}
SECRET = "secret"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace in which both stages were trained on this machine, with its own disk."""
    from pipelines import finetune, pretrain

    folder, before = tmp_path_factory.mktemp("laptop"), Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEA_HOME", str(folder / "calm"))
        params = prepare_workspace(
            folder,
            pretrain__epochs=6,
            tune__space=SPACE,
            tune__budget={"trials": 2, "hours": 1, "disk_gb": 1},
            tune__report_every_steps=4,
            tune__scheduler="none",
        )
        pretrain.run(params)
        finetune.run(params)
    yield folder
    os.chdir(before)


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, for nodes to work in; without what the laptop's runs left but the outs."""
    folder = tmp_path / "workspace"
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("calm"))
    return folder


def learnt(stage: Path) -> dict[str, str]:
    """Digests of what a stage has learnt, and its losses."""
    files = [stage / "connector.safetensors", *sorted((stage / "adapter").glob("*.safetensors"))]
    with (stage / "log.csv").open() as stream:
        losses = json.dumps([row["loss"] for row in csv.DictReader(stream)])
    return {"losses": losses, **{file.name: file_digest(file) for file in files}}


def line(command: dict[str, Any]) -> str:
    """The one line of a mistake: the only one on standard error."""
    assert command["code"] == 2, command
    lines = command["err"].strip().splitlines()
    assert len(lines) == 1, command["err"]
    assert SECRET not in command["out"] + command["err"]
    return lines[0]


def test_what_a_cluster_lacks_is_one_line_before_training_starts(workspace: Path) -> None:
    found = run_scenario("mistakes", workspace, 300)
    node = r"worker on .*\(10\.9\.0\.[23]\)"
    for name, expected in {
        "hidden home": rf"error: {node} does not see .*/home \(run state\): set LEA_HOME to a folder that all",
        "too few CPUs": r"error: params.yaml: training.workers asks for 4 workers of a CPU each, but .* room for 2",
        "no credentials": r"error: worker on .*\(10\.9\.0\.3\): no credentials for s3://lea-test/team$",
        "another disk": rf"error: {node}: file://.*/storage is another place there than here",
        "no token": r"error: the Ray cluster at RAY_ADDRESS=10.9.0.1:6390 and this machine do not agree on a token",
        "another token": r"error: the Ray cluster at .*:6390 and this machine do not agree on a token",
    }.items():
        assert re.match(expected, line(found[name])), (name, found[name])
        assert found[name]["seconds"] < 60
    assert not list(workspace.glob("home/runs/*/metrics.jsonl"))


def test_nodes_that_share_no_disk_learn_what_the_laptop_learns(workspace: Path, trained: Path) -> None:
    for stage in ("pretrain", "finetune"):
        shutil.rmtree(workspace / "models" / stage)
    found = run_scenario("training", workspace, 400)
    for name in ("pretrain", "finetune", "pretrain elsewhere"):
        assert found[name]["code"] == 0, found[name]
        assert SECRET not in found[name]["out"] + found[name]["err"]
    for stage in ("pretrain", "finetune"):
        assert learnt(workspace / "models" / stage) == learnt(trained / "models" / stage)
    assert "already done" in found["pretrain elsewhere"]["out"]
    assert re.search(r"sending our code to the nodes: lea-code-[0-9a-f]{16}, \d\.\d MB", found["pretrain"]["out"])
    base = file_digest(trained / "models" / "base" / "model.safetensors")
    fetched = [entry for entry in found["requests"] if f"GET /lea-test/team/files/{base}" in entry]
    assert len(fetched) == 2  # once by each node, for two workers and two stages
    assert all(any(file.endswith(f"/files/{base}") for file in files) for files in found["cached"])


def test_a_lost_node_costs_nothing_but_time(workspace: Path) -> None:
    found = run_scenario("lost", workspace, 600)
    assert found["calm"]["code"] == found["lost"]["code"] == 0, found
    calm, lost = (next(workspace.glob(f"{home}/runs/pretrain-*")) for home in ("calm60", "home60"))
    assert (calm / "metrics.jsonl").read_bytes() == (lost / "metrics.jsonl").read_bytes()
    assert file_digest(calm / "parts/connector.safetensors") == file_digest(lost / "parts/connector.safetensors")
    assert len((lost / "timings.jsonl").read_text().splitlines()) == 120
    assert "cluster: the node 10.9.0.2 was lost" in found["lost"]["out"]
    assert "raylet" not in found["lost"]["out"] + found["lost"]["err"]


def test_a_search_runs_on_them_beside_a_head_without_cpus(workspace: Path) -> None:
    found = run_scenario("search", workspace, 500)
    assert re.search(r"worker on .*\(10\.9\.0\.\d\): no credentials", line(found["no credentials here"]))
    assert found["tune"]["code"] == 0, found["tune"]
    trials = json.loads((workspace / "tune" / "search.json").read_text(encoding="utf-8"))["trials"]
    assert [trial["state"] for trial in trials] == ["finished", "finished"]


def test_a_job_that_is_submitted_runs_outside_git(tmp_path: Path) -> None:
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in kept:
        if name.startswith(("components/", "pipelines/", "infra/", ".dvc/")) or name in ("dvc.yaml", ".rayignore"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    small_params(tmp_path)
    set_param(
        tmp_path,
        base__tiny__vision__images=64,
        base__tiny__vision__epochs=1,
        base__tiny__language__texts=64,
    )
    (tmp_path / ".env").write_text(f"KEY={SECRET}", encoding="utf-8")
    found = run_scenario("job", tmp_path, 500)
    assert found["job"]["code"] == 0, found["job"]
    assert "finetune: connector and adapter -> models/finetune" in found["job"]["out"]
    assert SECRET not in found["job"]["out"]


def test_nodes_that_an_autoscaler_brings_and_places_that_others_hold_are_waited_for(tmp_path: Path) -> None:
    found = run_scenario("scaled", tmp_path, 200)["room"]
    assert found["code"] == 0, found["err"]
    assert found["out"].splitlines() == [
        "cluster: waiting for room for 2 workers: 0 of 0 are free; its autoscaler is asked for more, up to the limits "
        "set for it",
        "there",
        "cluster: waiting for room for 2 workers: 0 of 2 are free",
        "there again",
    ]
