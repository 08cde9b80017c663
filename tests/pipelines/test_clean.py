from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from components.errors import UserError
from components.leases import Holder, own, this_home
from components.shared_storage import shared_storage
from pipelines.verbs import clean

HOLD = (
    "import sys; from components.locks import lock\nwith lock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
)


def state(home: Path, name: str, *files: str) -> Path:
    folder = home / "runs" / name
    for file in ("checkpoint.bin", *files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("x" * 10, encoding="utf-8")
    return folder


def free(capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, str | None]]:
    """The error line, and what was kept by run."""
    error = ""
    try:
        clean.run(Namespace(free=True, json=True))
    except UserError as mistake:
        error = str(mistake)
    return error, {entry["run"]: entry["kept"] for entry in json.loads(capsys.readouterr().out)}


def test_free_removes_run_state_and_nothing_else(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = state(own_home, "pretrain-1")
    stranger = own_home / "runs" / "notes.txt"
    stranger.write_text("mine", encoding="utf-8")
    others = [state(own_home, name) for name in ("exp1", "train", "Nov27_12-00-00_host", "my-finetune-1")]
    assert free(capsys) == ("", {"pretrain-1": None})
    assert not run.exists()
    assert stranger.exists()
    assert all((other / "checkpoint.bin").exists() for other in others)


def test_metrics_that_wait_to_be_sent_are_kept(own_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = state(own_home, "finetune-1", "waiting-search-1-trial.json")
    error, kept = free(capsys)
    assert "1 of 1 runs were kept (finetune-1: metrics wait to be sent (search-1-trial)" in error
    assert kept["finetune-1"]
    assert (run / "checkpoint.bin").exists()


@pytest.mark.parametrize("held", ["finetune-1", "search-1"])
def test_the_state_of_a_running_stage_or_search_is_kept(
    held: str, own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = state(own_home, "finetune-1"), state(own_home, "pretrain-1")
    (run / "search.txt").write_text("search-1", encoding="utf-8")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, held],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    try:
        error, kept = free(capsys)
    finally:
        holder.communicate()
    assert "finetune-1: a process is at work on it" in error
    assert kept["pretrain-1"] is None
    assert (run / "checkpoint.bin").exists()
    assert not other.exists()
    assert free(capsys) == ("", {"finetune-1": None})


def test_free_removes_a_run_from_the_storage_too(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEA_STORAGE", f"file://{tmp_path}/storage")
    storage = shared_storage()
    assert storage
    own(storage, "pretrain-1", this_home())
    own(storage, "pretrain-2", this_home())
    own(storage, "pretrain-3", Holder("f" * 32, "elsewhere:/home/you/.lea"))
    for name in ("pretrain-1", "pretrain-3"):
        state(own_home, name)
    assert free(capsys) == ("", {"pretrain-1": None, "pretrain-3": None})
    assert sorted(run.name for run in (tmp_path / "storage" / "runs").iterdir()) == ["pretrain-2", "pretrain-3"]
