from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import UserError
from components.params import Params
from components.params.trees import changed
from components.report.assumptions import assumptions
from components.report.comparisons import answers_of
from components.report.inputs import read_inputs
from components.report.size_and_time import measured_sizes


def test_answers_to_other_data_are_not_shown_beside_ours() -> None:
    table = {"data_digest": "d", "answers": {"unifood/plates/1": {"LoRA": "rice"}}}
    item = {"benchmark": "unifood", "source": "plates", "id": "1"}
    assert answers_of({"table1": table}, item, "d") == {"LoRA": "rice"}
    assert answers_of({"table1": table}, item, "other") == {}
    assert answers_of({}, item, "d") == {}


def test_sizes_without_iou_are_not_drawn() -> None:
    rows = [{"name": "LoRA rank 4", "adapter_bytes": 2048, "figures": {"choice.accuracy": {"mean": 0.5}}}]
    assert not any(measured_sizes({"rows": rows}).values())


def test_json_that_is_no_table_is_told_in_one_line(run: Path) -> None:
    (run / "tables").mkdir(exist_ok=True)
    (run / "tables" / "mine.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match=r"mine\.json is not a table"):
        read_inputs(run)


def test_ranks_of_the_paper_s_size_are_not_assumed_of_another(params: Params) -> None:
    tree = changed(params.model_dump(), {"adapter.kind": "rode"})
    assert params.adapter.rank != 64
    for rank, told in ((params.adapter.rank, False), (64, True)):
        assumed, _ = assumptions(changed(tree, {"adapter.rank": rank}))
        assert any("RoDE's experts have ranks 8, 8, 16 and 32" in one.what for one in assumed) == told
