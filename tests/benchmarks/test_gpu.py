"""The GPU benchmark's script, on a CPU: every phase runs, and one that fails costs itself alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import gpu
from benchmarks.on_gpu.clock import Bench


@pytest.mark.slow  # a process that has used torch's threads must not fork: run these files alone
@pytest.mark.parametrize(("phase", "start"), [("decode", "fork"), ("vce", "spawn")])
def test_phase_runs_on_a_cpu(phase: str, start: gpu.Start) -> None:
    found = gpu.measured(phase, tiny=True, limit_s=120, start=start)
    assert found["state"] == "done", found["log"]
    assert all(row["value"] > 0 for row in found["rows"])


@pytest.mark.slow
def test_all_phases_run_on_a_cpu_and_write_every_goal_s_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    monkeypatch.setattr("sys.argv", ["gpu", "--tiny", "--output", str(out)])
    gpu.main()
    phases = json.loads(out.read_text(encoding="utf-8"))["phases"]
    assert {name: phase["state"] for name, phase in phases.items()} == dict.fromkeys(gpu.PHASES, "done")
    rows = {row["row"] for phase in phases.values() for row in phase["rows"]}
    assert set(gpu.GOALS) <= rows
    assert "reached" not in capsys.readouterr().out  # toy models reach no goal


def test_phase_that_crashes_or_hangs_keeps_its_rows_and_spares_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = tmp_path / "pid"

    def crashes(bench: Bench) -> None:
        bench.emit("a row", 1.5)
        os.kill(os.getpid(), signal.SIGKILL)

    def hangs(bench: Bench) -> None:
        bench.emit("a row", 1.5)
        started.write_text(str(subprocess.Popen(["sleep", "60"]).pid))
        time.sleep(60)

    from benchmarks.on_gpu import forwards

    for function in (crashes, hangs):
        monkeypatch.setattr(forwards, "cue", function)
        found: dict[str, Any] = gpu.measured("vce", tiny=True, limit_s=5)
        assert [row["value"] for row in found["rows"]] == [1.5]
        assert found["state"] in ("failed with exit code -9", "stopped after 5 s")
    left = int(started.read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE  # nobody waits for it


def test_goals_bound_from_the_side_that_they_name() -> None:
    assert gpu.reaches("decode dual_lora / lora, batch 1", 1.02)
    assert gpu.reaches("training unifood: peer's seconds / ours", 2.5) is False
    assert gpu.reaches("lea plan / measured peak, q,v r64", 0.96) is False
    assert gpu.reaches("vce forward, 8 images", 1.0) is None
