from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from components.errors import UserError
from components.params import Params
from components.params.trees import changed
from components.report.assumptions import assumptions
from components.report.comparisons import answers_of, comparisons
from components.report.inputs import read_inputs
from components.report.size_and_time import measured_sizes


def test_answers_to_other_data_are_not_shown_beside_ours() -> None:
    table = {"data_digest": "d", "answers": {"unifood/plates/1": {"LoRA": "rice"}}}
    item = {"benchmark": "unifood", "source": "plates", "id": "1"}
    assert answers_of({"table1": table}, item, "d") == {"LoRA": "rice"}
    assert answers_of({"table1": table}, item, "other") == {}
    assert answers_of({}, item, "d") == {}


def test_tables_of_other_data_are_not_shown() -> None:
    table = json.loads((Path(__file__).parents[2] / "tables/table1.json").read_text("utf-8"))
    (shown,) = comparisons({"table1": table}, table["data_digest"])
    assert shown.table.columns[0].main
    assert not all(column.main for column in shown.table.columns)
    assert comparisons({"table1": table}, "of another run") == []
    for record, words in (({**table, "version": "9.8.7"}, "made by version 9.8.7"), (table, "before version 0.2.0")):
        record = {key: value for key, value in record.items() if key != "version" or value == "9.8.7"}
        assert words in comparisons({"table1": record}, table["data_digest"])[0].origin
    del table["differences"]["ingredients.iou: RoDE - LoRA"]
    (shown,) = comparisons({"table1": table}, table["data_digest"])
    assert dict(shown.gaps)["RoDE"][0].text == "–"


def test_the_sweep_shows_all_numbers_of_tasks_and_the_rows_that_are_compared_with_its_first() -> None:
    table = json.loads((Path(__file__).parents[2] / "tables/tasks.json").read_text("utf-8"))
    (shown,) = comparisons({"tasks": table}, table["data_digest"])
    first = [column.name for column in shown.table.columns if column.main]
    assert first == ["1 task", "2 tasks", "3 tasks", "6 tasks", "12 tasks", "24 tasks"]
    assert "Dual-LoRA, rank 8" in dict(shown.gaps)
    assert not any("about as many parameters" in name for name, _ in shown.gaps)
    assert all(gap.text != "–" for _, gaps in shown.gaps for gap in gaps)
    assert re.fullmatch(r"\d+\.\d(\s±.*)?", shown.table.rows[0][2][0].text)


def test_assumptions_about_tasks_that_were_not_asked_are_left_out(params: Params) -> None:
    for tasks, among in ((["caption"], False), (["caption", "nutrition"], True)):
        assumed, unverified = assumptions(params.model_dump(), tasks)
        assert any("pMAE" in one.what for one in assumed) == among
        assert not any("7B" in one.what for one in unverified), "a tiny base loads no 7B weights"


def test_sizes_without_iou_are_not_drawn() -> None:
    rows = [{"name": "LoRA rank 4", "adapter_bytes": 2048, "figures": {"choice.accuracy": {"mean": 0.5}}}]
    assert not any(measured_sizes({"rows": rows}).values())


def test_json_that_is_no_table_is_reported_in_one_line(run: Path) -> None:
    (run / "tables").mkdir(exist_ok=True)
    (run / "tables" / "mine.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"mine\.json is not a table"):
        read_inputs(run)


def test_ranks_of_the_paper_s_size_are_not_assumed_of_another(params: Params) -> None:
    tree = changed(params.model_dump(), {"adapter.kind": "rode"})
    assert params.adapter.rank != 64
    for rank, among in ((params.adapter.rank, False), (64, True)):
        assumed, _ = assumptions(changed(tree, {"adapter.rank": rank}))
        assert any("RoDE's experts have ranks 8, 8, 16 and 32" in one.what for one in assumed) == among
