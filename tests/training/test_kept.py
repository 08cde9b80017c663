"""What a process keeps between runs changes nothing that they learn: each ends as it does alone, to the bit."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.params import Params
from components.params.trees import Value
from components.tables.variants import Variant
from components.training import stage
from components.training.job import Job, Validation
from components.training.journal import METRICS_FILE, VALIDATION_FILE
from components.training.kept import Kept
from components.training.loop import train, training
from components.training.parts import parts_of
from tests.workspace import prepare_workspace

PLENTY = 100_000_000
SLOW = ("dual_lora without VCE", "lora_moe", "rode", "bf16", "cropped", "short", "one by one")  # others ensure most
RUNS: dict[str, dict[str, Value]] = {
    "lora": {"adapter.kind": "lora"},
    "dual_lora": {"adapter.kind": "dual_lora", "finetune.learning_rate.adapter": 0.02},
    "dual_lora without VCE": {"adapter.kind": "dual_lora", "vce.enabled": False},
    "lora_moe": {"adapter.kind": "lora_moe", "adapter.lora_moe.balance_loss": 0.01, "adapter.lora_moe.num_experts": 2},
    "rode": {"adapter.kind": "rode", "adapter.rode.rank_shares": [1, 1]},
    "vlora": {"connector.kind": "vlora", "adapter.kind": "lora"},  # images take no places among the tokens
    "cropped": {"adapter.kind": "lora", "finetune.image": "crop"},
    "short": {"adapter.kind": "lora", "finetune.max_length": 60, "training.max_refused": 1.0},
    "one by one": {"adapter.kind": "lora", "training.shared_prefix": False},
    "language model": {"finetune.language_model": "trained"},
    "bf16": {"adapter.kind": "lora", "training.precision": "bf16"},
    "lora again": {"adapter.kind": "lora", "adapter.rank": 1},
}


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory, one_rank: None) -> Iterator[Params]:
    folder = tmp_path_factory.mktemp("workspace")
    before = Path.cwd()
    os.chdir(folder)
    params = prepare_workspace(folder, training__workers=1)
    yield params
    os.chdir(before)


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept(PLENTY)


def job_of(params: Params, changes: dict[str, Value], folder: Path) -> Job:
    settings = Variant("", changes).params(params, 5)
    adapter = settings.adapter if settings.finetune.language_model == "frozen" else None
    job = stage.make_job("finetune", settings, settings.finetune, adapter, None)
    return replace(job, folder=folder, validation=Validation(2, 0))


def learnt(job: Job) -> dict[str, Any]:
    parts = parts_of(job)
    assert parts is not None
    tensors = {f"{file.name}/{name}": t for file in parts.rglob("*.safetensors") for name, t in load_file(file).items()}
    return {name: (job.folder / name).read_text(encoding="utf-8") for name in (METRICS_FILE, VALIDATION_FILE)} | tensors


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name], name


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in RUNS])
def test_run_in_a_process_that_keeps_things_learns_what_it_learns_alone(
    name: str, params: Params, kept: Kept, tmp_path: Path
) -> None:
    lone = job_of(params, RUNS[name], tmp_path / "lone")
    train(lone)
    left = training(job_of(params, RUNS[name], tmp_path / "left"), kept)
    next(left)
    left.close()  # a search stopped it at its first validation
    warm = replace(lone, folder=tmp_path / "warm")
    assert sum(1 for _ in training(warm, kept)) >= 2, "it pauses at each validation"
    assert_same(learnt(lone), learnt(warm))
    shutil.rmtree(tmp_path)


def test_second_run_collates_and_looks_at_nothing_again(
    params: Params, kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.batching.collator import Collator

    for _ in training(job_of(params, RUNS["lora"], tmp_path / "first"), kept):
        pass
    held = kept.num_bytes
    monkeypatch.setattr(Collator, "__call__", lambda *_: pytest.fail("collated again"))
    for _ in training(job_of(params, RUNS["rode"], tmp_path / "second"), kept):
        pass
    assert 0 < kept.num_bytes == held


def test_nothing_is_kept_beyond_the_room_there_is_or_of_another_seed() -> None:
    kept = Kept(100)
    assert kept.has_room([torch.zeros(20)])
    assert not kept.has_room([torch.zeros(20)])
    kept.turn_to(1)
    assert kept.num_bytes == 0
