from __future__ import annotations

from typing import Any

import pytest

from components.data import shards
from components.params import Params
from components.tables import record, trials
from components.tables.variants import study
from pipelines import tables


@pytest.mark.parametrize(("new_from", "written"), [(3, [3, 4]), (1, [1, 2, 3, 4]), (9, [4])])
def test_a_table_is_drawn_up_anew_only_after_seeds_that_bring_something(
    params: Params, monkeypatch: pytest.MonkeyPatch, new_from: int, written: list[int]
) -> None:
    """Its intervals take a minute; of seeds that were through, only the last one's table is what was asked for."""

    class Trials:
        shown: tuple[str, ...] = ()

        def __init__(self, *_: Any) -> None:
            self.worked = False

        def outlook(self) -> str:
            return ""

        def run(self, settings: Params) -> int:
            self.worked = self.worked or settings.seed >= new_from
            return settings.seed

    found = list[int]()
    monkeypatch.setattr(shards, "read_manifest", lambda _: {"digest": ""})
    monkeypatch.setattr(trials, "Trials", Trials)
    monkeypatch.setattr(record, "record", lambda one, rows, **_: {"order": "", "seeds": rows[0].trials[:]})
    monkeypatch.setattr(record, "write", lambda _, table: found.append(len(table["seeds"])))
    tables.fill(study("anchors"), params, [1, 2, 3, 4], lambda *_: None)
    assert found == written
