"""dvc.yaml: valid to DVC, and true to the code and to params.yaml."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def inner(stage: str) -> dict[str, Any]:
    return STAGES[stage].get("do", STAGES[stage])


@pytest.mark.parametrize("profile", ["tiny", "photos", "llava-1.5-7b"])
def test_dvc_reads_the_stages_of_every_profile(profile: str, tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)

    def run(*command: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    run("dvc", "init", "--no-scm", "-q")
    run("pipelines.cli", "profile", profile)
    names = run("dvc", "stage", "list", "--name-only").split()
    assert names[-5:] == ["pretrain", "finetune", "evaluate", "register", "report"]
    drawn = [name for name in names if name.startswith("plates@")]
    assert bool(drawn) == (profile == "tiny")


@pytest.mark.parametrize("stage", STAGES)
def test_code_that_a_stage_depends_on_exists(stage: str) -> None:
    code = [path for path in inner(stage)["deps"] if path.startswith(("components", "pipelines"))]
    assert f"pipelines/{stage}.py" in code or stage == "register"
    for path in code:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("stage", STAGES)
def test_params_that_a_stage_depends_on_exist(stage: str) -> None:
    for key in inner(stage)["params"]:
        value: Any = PARAMS
        for part in key.split("."):
            if not part.startswith("${"):
                assert part in value, key
                value = value[part]


def test_adapter_settings_reach_finetune_and_not_pretrain() -> None:
    assert "adapter" in inner("finetune")["params"]
    before = {"plates", "base", "prepare", "splits", "pretrain"}
    assert not any(key.startswith("adapter") for stage in before for key in inner(stage)["params"])
