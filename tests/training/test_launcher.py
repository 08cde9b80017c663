"""What a run's watcher prints of workers that were started again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.progress import Bar
from components.training.journal import METRICS_FILE, append
from components.training.launcher import Watcher


def journal(folder: Path, steps: Sequence[int]) -> None:
    (folder / METRICS_FILE).unlink(missing_ok=True)
    for step in steps:
        append(folder / METRICS_FILE, {"step": step, "of": 9, "loss": 1.0, "skipped": False})


def printed(folder: Path, journals: Sequence[Sequence[int]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines on started workers; the first journal stands there when the watcher comes."""
    job: Any = SimpleNamespace(folder=folder, stage="finetune")
    journal(folder, journals[0])
    watcher = Watcher(job, lambda step: None)
    with Bar("finetune", None) as bar:
        for steps in journals:
            journal(folder, steps)
            watcher._look(bar)
    return [line for line in capsys.readouterr().err.splitlines() if "started again" in line]


def test_a_lost_worker_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    lines = printed(tmp_path, [[], [1, 2, 3, 4, 5], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]], capsys)
    assert lines == ["finetune: its workers have started again, from step 3 (they were at 5)"]


def test_a_stage_that_goes_on_has_lost_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(tmp_path, [[1, 2, 3, 4, 5], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6]], capsys) == []
