"""The line under a loss curve; the registry's decision."""

from __future__ import annotations

from components.report.records import log_summary, registration_of


def test_seconds_of_the_steps_are_added_up() -> None:
    log = [{"step": step, "loss": 3.0 - step, "samples_per_s": 10.0 * step, "seconds": 40.0} for step in (1, 2, 3)]
    assert log_summary(log) == "3 steps, mean loss of the last 1: 0.000, 20.0 samples/s (median), 2 min 00 s in steps"


def test_a_gate_without_thresholds_is_not_said_to_be_passed() -> None:
    record = {"name": "lea", "version": 3, "aliases": ["candidate"], "gate": {"passed": True, "reasons": []}}
    shown = registration_of(record)
    assert shown is not None
    assert shown.sentence.endswith("the gate has no thresholds, so nothing was tested.")
    passed = registration_of(record | {"gate": {"passed": True, "reasons": ["passed: x 1 must be at least 0"]}})
    assert passed is not None
    assert passed.sentence.endswith("it passed the gate.")
