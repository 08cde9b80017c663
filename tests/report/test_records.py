"""The line under a loss curve; the registry's decision."""

from __future__ import annotations

import pytest

from components.report.records import log_summary, registration_of


def test_seconds_of_the_steps_are_added_up() -> None:
    log = [{"step": step, "loss": 3.0 - step, "samples_per_s": 10.0 * step, "seconds": 40.0} for step in (1, 2, 3)]
    assert log_summary(log) == "3 steps, mean loss of the last 3: 1.000, 20.0 samples/s (median), 2 min 00 s in steps"


@pytest.mark.parametrize(
    ("passed", "reasons", "said"),
    [
        (True, [], "the gate has no thresholds, so nothing was tested."),
        (
            False,
            ["no thresholds are set: registry.gate is empty"],
            "the gate has no thresholds, so nothing was tested.",
        ),
        (True, ["passed: x 1 must be at least 0"], "it passed the gate."),
        (False, ["failed: x 1 must be at least 2"], "the gate refused it."),
        (None, [], "the gate was not used."),
    ],
)
def test_a_gate_without_thresholds_neither_passes_nor_refuses(
    passed: bool | None, reasons: list[str], said: str
) -> None:
    gate = {"passed": passed, "reasons": reasons}
    shown = registration_of({"name": "lea", "version": 3, "aliases": ["candidate"], "gate": gate})
    assert shown is not None
    assert shown.sentence.endswith(said)
