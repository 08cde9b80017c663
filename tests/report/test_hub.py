"""The hub's files: read back by the hub's own client, with the page's figures."""

from __future__ import annotations

from pathlib import Path

import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from components.report.hub import eval_results
from components.report.inputs import Inputs, read_inputs
from components.report.ledger import ThisRun
from components.report.page import write_report


def test_results_and_card_are_read_by_the_hub_s_client(run: Path, this_run: ThisRun) -> None:
    write_report(read_inputs(run), this_run, run / "report")
    text = (run / "report/hub/.eval_results/local_enhanced_adapters.yaml").read_text("utf-8")
    entries = parse_eval_result_entries(yaml.safe_load(text))
    assert [(one.task_id, one.value) for one in entries] == [
        ("ingredients_iou", 78.12),
        ("ingredients_f1", 84.33),
        ("nutrition_pmae", 21.37),
    ]
    assert all(one.notes and "not a dataset of the hub" in one.notes for one in entries)
    card = ModelCard.load(run / "report/hub/README.md")
    assert card.data.to_dict()["library_name"] == "peft"
    assert "| ingredients | IoU | 78.1 |" in card.text
    assert "Dual-LoRA of rank 8" in card.text


def test_entries_hold_date_and_number_of_questions(tmp_path: Path) -> None:
    inputs = Inputs(
        tmp_path,
        {"finetune": {"caption": {"rouge_l": 31.5, "failed": 2.0}}},
        logs={"finetune": [{"step": 1, "time": 1795728300.0}]},
        asked={"finetune": {"caption": 300}},
        samples=[{"items": [{"task": "caption", "benchmark": "flickr30k"}]}],
    )
    (entry,) = eval_results(inputs, "ab" * 32)
    assert entry["dataset"] == {"id": "local/flickr30k", "task_id": "caption_rouge_l"}
    assert entry["date"] == "2026-11-26T21:25:00Z"
    assert "300 questions, data abababababab" in entry["notes"]
