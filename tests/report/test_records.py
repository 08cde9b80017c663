"""The line under a loss curve."""

from __future__ import annotations

from components.report.records import log_summary


def test_seconds_of_the_steps_are_added_up() -> None:
    log = [{"step": step, "loss": 3.0 - step, "samples_per_s": 10.0 * step, "seconds": 40.0} for step in (1, 2, 3)]
    assert log_summary(log) == "3 steps, mean loss of the last 1: 0.000, 20.0 samples/s (median), 2 min 00 s in steps"
