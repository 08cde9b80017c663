from __future__ import annotations

import time

from components.tables.trials import until


def test_the_end_is_given_by_the_clock_and_by_the_day_where_that_is_another() -> None:
    noon = time.mktime((2026, 11, 27, 12, 0, 0, 0, 0, -1))
    assert until(125, noon) == "2 min 05 s, till 12:02"
    assert until(13 * 3600, noon) == "13 h 00 min, till 28 November 01:00"
