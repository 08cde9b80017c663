"""`lea plan` as a user meets it."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from pipelines.cli import parser

ROOT = Path(__file__).parent.parent.parent


def plan(*words: str) -> Any:
    from pipelines.verbs import plan as verb

    arguments: argparse.Namespace = parser().parse_args(["plan", *words])
    return verb.run(arguments)


@pytest.fixture(autouse=True)
def in_a_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed settings, and nothing that a run in the repository may have left."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)


def test_profile_7b_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    before = (ROOT / "params.yaml").read_bytes()
    plan("llava-1.5-7b", "--gpu-memory", "40GiB", "--flops", "100TFLOPS", "--price", "2", "--samples", "1000", "--json")
    printed = json.loads(capsys.readouterr().out)
    assert printed["total"] - printed["parameters"]["adapter"]["number"] == 7_063_427_072 + 2_894_592
    assert printed["trained"] == sum(part["number"] for part in printed["parameters"].values() if part["trained"])
    stage = printed["stages"]["finetune"]
    assert stage["hours"] == pytest.approx(1000 * stage["flops"]["training"] / (8 * 100e12) / 3600)
    assert stage["price"] == pytest.approx(stage["hours"] * 8 * 2)
    # a block's products in VLoRA's formula are 8 h^2 + 16 h^2, Llama's MLP has 3 * 2 * 11008 / 4096 = 16.1
    assert stage["flops"]["language_model"] > stage["flops"]["language_model_text_only"] * 5
    fits = {row["micro_batch"]: row["zero"]["2"]["fits"] for row in printed["memory"]["longest"]["rows"]}
    assert fits[1] is True
    assert fits[4] is False
    assert [one["settings"] for one in printed["memory"]["remedies"]] == [
        {"micro_batch": 2},
        {"activation_checkpointing": True},
    ]
    assert all(one["total"] < printed["memory"]["usable"] < 39 * 2**30 for one in printed["memory"]["remedies"])
    assert (ROOT / "params.yaml").read_bytes() == before


def test_twice_the_gpus_take_half_the_hours(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for gpus in ("8", "16"):
        plan("--gpus", gpus, "--samples", "1000", "--json")
        printed.append(json.loads(capsys.readouterr().out))
    assert [one["training"]["workers"] for one in printed] == [8, 16]
    assert all(one["training"]["use_gpu"] for one in printed)
    few, many = (one["stages"]["finetune"] for one in printed)
    assert many["hours"] == pytest.approx(few["hours"] / 2)
    assert many["gpu_hours"] == pytest.approx(few["gpu_hours"])
    assert many["steps"] == few["steps"]


def test_what_does_not_fit_is_said_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    plan("--gpus", "2", "--gpu-memory", "1.6GiB", "--price", "2")
    printed = capsys.readouterr().out
    assert "cost at 2 per GPU hour" in printed
    assert re.search(r"Does not fit: in 1\.6 GiB the longest samples? .*No setting makes it fit", printed)
    assert re.search(r"LLaVA-1.5-7B, stage 1 on 558K, 128 text tokens, 8 A100s +4\.5 +3\.5 +hours", printed)
    assert re.search(r"all weights, 128 text tokens, 8 A100s +7\.1 +10\.0 +hours", printed)


def test_lengths_of_ones_own_data_do_not_enter_llava_s_hours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.costs.plan.mean_text_tokens", lambda *_: 40)
    plan()
    printed = capsys.readouterr().out
    assert "40 text tokens a sample as counted in the prepared data" in printed
    assert re.search(r"LLaVA-1.5-7B, stage 1 on 558K, 128 text tokens, 8 A100s +4\.5 +3\.5 +hours", printed)


def test_what_was_counted_is_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text = re.sub(r"targets:.*\n  - q_proj\n  - v_proj", r"targets: 'layers\\.\\d+\\..*(q|v)_proj'", text)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    plan("--text-tokens", "5000")
    printed = capsys.readouterr().out
    assert r"rank 8 on layers\.\d+\..*(q|v)_proj" in printed
    # max_length 192 and 256, 36 of them of the image
    assert "Assumed: 156 text tokens a sample (--text-tokens) in pretrain, 220 text tokens" in printed


def test_table_holds_the_published_figures(capsys: pytest.CaptureFixture[str]) -> None:
    plan()
    text = capsys.readouterr().out
    for figure in ("7,063,427,072", "8,027.8", "3,754.3", "826.8", "619.8", "5.52"):
        assert figure in text


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["llava-1.5-7"], "no profile is called 'llava-1.5-7'; did you mean llava-1.5-7b"),
        (["--gpu-memory", "24"], "--gpu-memory must be a positive number with a unit .*24GiB; got '24'"),
        (["--gpu-memory=-1GiB"], "--gpu-memory must be a positive number"),
        (["--flops", "fast"], "--flops must be a positive number"),
        (["--price", "-2.5"], "--price must be a number of at least 0, got -2.5"),
        (["--gpus", "0"], "--gpus must be at least 1, got 0"),
        (["--gpus", "3"], r"--gpus 3: pretrain.global_batch must be a multiple of training.workers \(3\), got 32"),
        (["--samples", "0"], "--samples must be at least 1, got 0"),
    ],
)
def test_mistake_is_one_line(words: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        plan(*words)
    assert "\n" not in str(caught.value)


def test_the_last_line_says_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    plan("llava-1.5-7b-general", "--gpu-memory", "80GiB", "--price", "2")
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"llava-1\.5-7b-general on 8 GPUs: Fits 80 GiB.* Training: [\d.]+ h, price [\d.,]+\.", last)
