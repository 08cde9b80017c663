from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.params import Params
from components.tables.trials import Trials, until


def test_the_end_is_given_by_the_clock_and_by_the_day_where_that_is_another() -> None:
    noon = time.mktime((2026, 11, 27, 12, 0, 0, 0, 0, -1))
    assert until(125, noon) == "2 min 05 s, till 12:02"
    assert until(13 * 3600, noon) == "13 h 00 min, till 28 November 01:00"


def test_tables_that_are_made_at_the_same_time_remember_how_long_pieces_take(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEA_HOME", str(tmp_path))

    def remember(_: int) -> None:
        trials = Trials(params, [], lambda *_: None)
        for _ in range(20):
            with trials._timed("ask"):
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remember, range(8)))
    (kept,) = (tmp_path / "tables").iterdir()
    assert json.loads(kept.read_text("utf-8")).keys() == {"ask"}
