"""Which samples validation measures."""

from __future__ import annotations

import numpy as np

from components.training.validation import evenly

STARTS = np.array([0, 3, 4, 9, 10, 12])  # five rows of 3, 1, 5, 1 and 2 samples


def test_all_rows_without_a_limit() -> None:
    for most in (0, 12, 100):
        assert [unit.tolist() for unit in evenly(STARTS, most)] == [[0, 1, 2], [3], [4, 5, 6, 7, 8], [9], [10, 11]]


def test_limit_takes_whole_rows_from_first_to_last() -> None:
    assert [unit.tolist() for unit in evenly(STARTS, 6)] == [[0, 1, 2], [10, 11]]
    assert [unit.tolist() for unit in evenly(STARTS, 1)] == [[0, 1, 2]]
