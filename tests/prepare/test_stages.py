"""The stages `prepare` and `splits`: from raw files to assignments, with every count printed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.errors import UserError
from components.params import Params, load_params, validate_params
from pipelines import prepare, splits
from tests.raw import RAW, tokenizer_file

PARAMS = Path(__file__).parents[2] / "params.yaml"


def params_with(raw: Path, number: int) -> Params:
    """The project's settings with one small source of each kind."""
    sources = {kind: make(raw / kind, number).model_dump() for kind, make in RAW.items()}
    tree = load_params(PARAMS).model_dump()
    tree["data"] |= {"sources": sources, "max_pixels": 10_000}
    tree["pretrain"]["sources"], tree["finetune"]["sources"] = ["llava_json"], ["unifood"]
    return validate_params(tree)


def test_stages_prepare_and_assign_every_source(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    params = params_with(tmp_path / "raw", 12)
    Path("models/base").mkdir(parents=True)
    shutil.copy(tokenizer_file(), prepare.TOKENIZER)
    for name in RAW:
        prepare.run(params, name)
    assert "rejected" in capsys.readouterr().out
    splits.run(params)
    assignments = pq.read_table("data/splits/assignments.parquet").to_pylist()
    summary = json.loads(Path("data/splits/summary.json").read_text())
    rows = {name: sum(counts["rows"] for counts in summary[name].values()) for name in RAW}
    assert rows == {"nutrition5k": 24} | {name: 12 for name in RAW if name != "nutrition5k"}
    assert len(assignments) == sum(rows.values())
    assert {row["split"] for row in assignments if row["source"] == "scienceqa"} == {"train", "validation", "test"}
    # pictures 0 to 11 stand in every source: with ScienceQA's declared splits they go one way in all of them
    split = {(row["source"], row["row"]): row["split"] for row in assignments}
    for number in range(1, 12, 2):
        assert split["unifood", number] == split["flickr30k", number] == split["scienceqa", number]


def test_unknown_source_and_missing_preparation_are_one_line(tmp_path, monkeypatch):
    params = params_with(tmp_path / "raw", 2)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data\.sources has no 'coco'; it has flickr30k"):
        prepare.run(params, "coco")
    with pytest.raises(UserError, match=r"manifest\.json is missing; run: dvc repro prepare"):
        splits.run(params)
