from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.training.checkpoint import TrainState, checkpoints, latest_step, load_latest, save_checkpoint


def state(step: int) -> TrainState:
    tensors = {"a.weight": torch.full((2, 3), float(step)), "b.bias": torch.arange(4.0) + step}
    return TrainState(step, tensors, {n: t * 0.1 for n, t in tensors.items()}, {n: t * t for n, t in tensors.items()})


def test_what_was_saved_is_read_to_the_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(7))
    found = load_latest(tmp_path)
    assert found is not None
    assert found.step == latest_step(tmp_path) == 7
    for name, tensor in state(7).exp_avg.items():
        assert torch.equal(found.exp_avg[name], tensor)


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, state(step))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000020", "step-00000030"]


@pytest.mark.parametrize("file", ["weights.safetensors", "exp_avg_sq.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, file: str, damage: str) -> None:
    save_checkpoint(tmp_path, state(10))
    target = save_checkpoint(tmp_path, state(20)) / file
    data = bytearray(target.read_bytes())
    if damage == "remove":
        target.unlink()
    elif damage == "cut":
        target.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 0xFF
        target.write_bytes(data)
    found = load_latest(tmp_path)
    assert found is not None
    assert found.step == 10


def test_half_written_checkpoint_does_not_count(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(10))
    (tmp_path / ".step-00000020.partial").mkdir()
    assert latest_step(tmp_path) == 10


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    assert latest_step(tmp_path) == 0
