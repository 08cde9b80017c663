"""The report's part on a search stands there where tune/search.json does, and only there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.report.inputs import read_inputs
from components.report.ledger import ThisRun
from components.report.page import write_report
from components.report.search import search_shown
from components.search.importance import importances
from components.search.result import make_trial, to_json
from components.search.space import Dimension
from tests.report.conftest import write

SPACE = [Dimension("adapter.rank", "choice", (2, 4))]


def result() -> dict[str, Any]:
    trials = []
    for number, loss in enumerate((0.9, 0.6, 0.7, 0.8), start=1):
        last = {"step": 9 if number < 4 else 3, "of": 9, "adapter_parameters": 100 * number}
        curve = [[1.0, loss + 0.1, 60.0 * number], [3.0, loss, 60.0 * number + 30]][: 2 if number < 4 else 1]
        trials.append(make_trial(number, {"adapter.rank": 2 + 2 * (number % 2)}, last, "", curve))
    gain = {"default": 0.9, "best": 0.6, "gain": 0.3, "low": 0.1, "high": 0.5}
    return {
        "best": 2,
        "apply": "dvc exp run -S adapter.rank=2",
        "gain": {"validation": gain, "test": {**gain, "low": -0.1}},
        "space": [asdict(dimension) for dimension in SPACE],
        "importance": [asdict(one) for one in importances(trials, SPACE)],
        "trials": [to_json(trial) for trial in trials],
    }


def test_search_is_reported_with_its_gain_whichever_way_it_falls() -> None:
    shown = search_shown(result())
    assert shown is not None
    assert "3 finished, 1 stopped early" in shown.sentence
    assert [line.rpartition(": ")[2] for line in shown.gains] == ["better", "undecided"]
    assert [best for best, _ in shown.rows] == [True, False, False, False]


def test_page_has_the_section_only_after_a_search(run: Path, this_run: ThisRun, tmp_path: Path) -> None:
    for searched in (False, True):
        if searched:
            write(run / "tune/search.json", result())
        folder = tmp_path / f"report-{searched}"
        write_report(read_inputs(run), this_run, folder)
        for name, heading in (("report.html", '<section id="search">'), ("report.md", "## Search")):
            assert (heading in (folder / name).read_text(encoding="utf-8")) == searched
        assert (folder / "images/search_front.svg").exists() == searched
