from __future__ import annotations

import math

import pytest

from components.training.guard import WINDOW, Guard


def test_loss_that_is_no_number_is_bad_from_the_first_step() -> None:
    guard = Guard(spike=0)
    assert guard.complaint(2.0) is None
    for loss in (math.nan, math.inf):
        assert "the loss is" in (guard.complaint(loss) or "")


def test_spike_is_measured_against_the_median_of_the_window() -> None:
    guard = Guard(spike=3, past=[100.0] + [1.0] * WINDOW)
    assert guard.complaint(3.0) is None
    assert "more than 3 times" in (guard.complaint(3.1) or "")
    assert Guard(spike=3, past=[1.0] * (WINDOW - 1)).complaint(1e6) is None
    assert Guard(spike=0, past=[1.0] * WINDOW).complaint(1e6) is None


def test_what_was_learnt_moves_the_window() -> None:
    guard = Guard(spike=3, past=[1.0] * WINDOW)
    for _ in range(WINDOW):
        guard.learnt(4.0)
    assert guard.complaint(11.0) is None


@pytest.mark.parametrize("split", [0, 5, WINDOW + 3])
def test_resumed_guard_judges_like_the_one_before(split: int) -> None:
    losses = [5 / (1 + step) for step in range(2 * WINDOW)]
    whole = Guard(2, losses)
    resumed = Guard(2, losses[:split])
    for loss in losses[split:]:
        resumed.learnt(loss)
    for loss in (0.1, 0.3, 0.5, 1.0):
        assert whole.complaint(loss) == resumed.complaint(loss)
