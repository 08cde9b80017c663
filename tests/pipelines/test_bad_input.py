"""What a user may get wrong: one line of ours, exit code 2, from `lea` and from the stages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def run(workspace: Path, *command: str, **environment: str) -> tuple[int, list[str]]:
    """Exit code and lines on standard error."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LEA_HOME": str(workspace / ".lea"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()


def edit(workspace: Path, old: str, new: str) -> None:
    path = workspace / "params.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_typo_in_params(workspace: Path) -> None:
    edit(workspace, "\n  rank: 8\n", "\n  rnak: 8\n")
    code, lines = run(workspace, "-m", "pipelines.splits")
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith("error: params.yaml: adapter.r")


def test_missing_raw_folder(workspace: Path) -> None:
    code, lines = run(workspace, "-m", "pipelines.prepare", "unifood")
    assert (code, len(lines)) == (2, 1)
    assert "data/raw/plates_unifood is missing; run: dvc repro plates" in lines[0]


def test_base_that_does_not_exist(workspace: Path) -> None:
    edit(workspace, "kind: tiny", "kind: compose")
    edit(workspace, "openai/clip-vit-large-patch14-336", "no/such-encoder")
    code, lines = run(workspace, "-m", "pipelines.base", HF_HUB_OFFLINE="1")
    assert (code, len(lines)) == (2, 1)
    assert "base.compose.vision 'no/such-encoder' cannot be loaded" in lines[0]
    assert not (workspace / "models" / "base").exists()


@pytest.mark.parametrize("stage", ["splits", "pretrain", "finetune", "evaluate", "register", "report"])
def test_stage_without_the_one_before_names_what_to_run(workspace: Path, stage: str) -> None:
    code, lines = run(workspace, "-m", f"pipelines.{stage}")
    assert (code, len(lines)) == (2, 1), lines
    assert "is missing; run: dvc repro" in lines[0]


def test_predict_without_a_champion(workspace: Path) -> None:
    code, lines = run(workspace, "-m", "pipelines.cli", "predict", "--prompt", "What is this?")
    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].startswith("error: ")


def test_tracking_server_that_does_not_answer(workspace: Path) -> None:
    away = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    code, lines = run(workspace, "-m", "pipelines.cli", "predict", "--prompt", "What is this?", **away)
    assert (code, len(lines)) == (2, 1), lines
    assert "127.0.0.1:9" in lines[0]


def test_unknown_profile(workspace: Path) -> None:
    code, lines = run(workspace, "-m", "pipelines.cli", "profile", "lava-1.5-7b")
    assert (code, len(lines)) == (2, 1)
    assert "did you mean llava-1.5-7b" in lines[0]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("kind: dual_lora", "kind: dora", "adapter.kind must be 'lora', 'dual_lora', 'lora_moe' or 'rode', got 'dora'"),
        ("kind: dual_lora", "kind: rode\n  rank: 6", "adapter: rank 6 must divide by 8, the sum of rode.rank_shares"),
        ("  - -5\n", "  - -20\n", "vce.levels holds -20, but the vision encoder has hidden"),
    ],
)
def test_check_of_settings_tells_what_does_not_go_together(workspace: Path, old: str, new: str, line: str) -> None:
    if "rank" in new:
        edit(workspace, "\n  rank: 8\n", "\n")
    edit(workspace, old, new)
    code, lines = run(workspace, "-m", "pipelines.cli", "profile", "--check")
    assert (code, len(lines)) == (2, 1), lines
    assert lines[0].startswith(f"error: params.yaml: {line}")
