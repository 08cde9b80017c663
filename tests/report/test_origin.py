"""What was trained on what, from settings and files of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.params import Params, validate_params
from components.params.trees import changed
from components.report.inputs import Inputs, read_inputs
from components.report.ledger import ThisRun
from components.report.origin import base_name, facts, method, trained_on_what
from components.report.records import key_settings


def with_settings(params: Params, **settings: Any) -> Params:
    return validate_params(changed(params.model_dump(), settings))


def test_sentence_names_method_base_sources_and_numbers(params: Params, tmp_path: Path) -> None:
    splits = {
        "captions": {"train": {"caption": 1000, "rows": 1000}},
        "unifood": {"train": {"ingredients": 20, "recipe": 20, "rows": 20}},
    }
    said = trained_on_what(params, Inputs(tmp_path, {}, splits=splits, base={"digest": "ab" * 32}))
    assert said.startswith("Dual-LoRA of rank 8 on q_proj, v_proj, with Visual Cue Enhancement, trained on the tiny")
    assert "(abababababab): stage 1 on 1\u202f000 samples (captions 1\u202f000); " in said
    assert "stage 2 on 40 samples (unifood 40, scienceqa 0, flickr30k 0)" in said


def test_samples_of_tasks_that_were_left_out_do_not_count(params: Params, tmp_path: Path) -> None:
    splits = {"unifood": {"train": {"ingredients": 20, "recipe": 30, "rows": 30}}}
    chosen = with_settings(params, **{"finetune.tasks": ["recipe"], "finetune.sources": ["unifood"]})
    assert "stage 2 on 30 samples" in trained_on_what(chosen, Inputs(tmp_path, {}, splits=splits))


def test_composed_base_is_named_without_paths_of_this_machine(params: Params) -> None:
    names = {"base.compose.vision": "/home/someone/models/dinov2-small", "base.compose.language": "org/SmolLM2-135M"}
    composed = with_settings(params, **{"base.kind": "compose", **names})
    assert base_name(composed, None) == "org/SmolLM2-135M with the vision encoder dinov2-small"


def test_whole_language_model_has_no_adapter(params: Params) -> None:
    trained = with_settings(params, **{"finetune.language_model": "trained", "vce.enabled": False})
    assert method(trained) == "The whole language model"
    shown = dict(key_settings(trained))
    assert not [key for key in shown if key.startswith("adapter.")]
    assert shown["finetune.learning_rate"] == "projector 0.002, language_model 0.001"


def test_settings_are_those_in_use(params: Params) -> None:
    shown = dict(key_settings(with_settings(params, **{"vce.enabled": False})))
    assert shown["vce.enabled"] == "false"
    assert "vce.levels" not in shown
    assert "adapter.rode" not in shown
    assert shown["finetune.learning_rate"] == "projector 0.002, adapter 0.005"
    assert "finetune.tasks" not in shown


def test_facts_tell_when_how_long_and_where(run: Path, this_run: ThisRun) -> None:
    log = "step,loss,time,seconds,workers,memory_peak_bytes\n1,2.0,1795728000,60,2,2e9\n2,1.0,1795728300,65,2,3e9\n"
    (run / "models/finetune/log.csv").write_text(log)
    shown = dict(facts(replace(this_run, commit="abc", machine="A Processor, 2 cores"), read_inputs(run), None))
    assert shown["training ended"] == "2026-11-26 21:25 UTC"
    assert shown["training took"] == "stage 1 1 min 16 s, stage 2 2 min 05 s, in steps alone"
    assert shown["trained with"] == "2 workers on CPU, at most 3.0 GB of memory each"
    assert (shown["code"], shown["page written on"]) == ("commit abc", "A Processor, 2 cores")
    assert "tested on" not in shown, "nothing is known of the answers of this run"


def test_facts_leave_out_what_was_not_recorded(this_run: ThisRun, tmp_path: Path) -> None:
    assert list(dict(facts(this_run, Inputs(tmp_path, {}), None))) == ["profile", "seed"]


@pytest.mark.parametrize("name", ["validation.csv", "validation.jsonl"])
def test_validation_is_read_where_it_was_measured(run: Path, name: str) -> None:
    line = '{"step": 2, "of": 4, "validation_loss": 1.5}\n'
    (run / "models/finetune" / name).write_text(line if name.endswith("l") else "step,of,validation_loss\n2,4,1.5\n")
    assert read_inputs(run).validation == {"finetune": [{"step": 2, "of": 4, "validation_loss": 1.5}]}


def test_validation_may_be_a_column_of_the_log(run: Path) -> None:
    (run / "models/pretrain/log.csv").write_text("step,loss,validation_loss\n1,2.0,\n2,1.5,1.75\n")
    assert [line["validation_loss"] for line in read_inputs(run).validation["pretrain"]] == [1.75]
