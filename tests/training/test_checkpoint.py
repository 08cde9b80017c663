from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from components.training import checkpoint
from components.training.checkpoint import (
    TrainState,
    checkpoints,
    discard_after,
    latest_step,
    load_checkpoint,
    newest_intact,
    save_checkpoint,
)


def state(step: int) -> TrainState:
    tensors = {"a.weight": torch.full((2, 3), float(step)), "b.bias": torch.arange(4.0) + step}
    tenth, square = {n: t * 0.1 for n, t in tensors.items()}, {n: t * t for n, t in tensors.items()}
    return TrainState(step, step - 1, tensors, tenth, square)


def test_what_was_saved_is_read_to_the_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(7))
    assert newest_intact(tmp_path) == latest_step(tmp_path) == 7
    found = load_checkpoint(tmp_path, 7)
    assert (found.step, found.updates) == (7, 6)
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
    assert newest_intact(tmp_path) == 10
    discard_after(tmp_path, 10)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000010"]


@pytest.mark.parametrize(
    "edit",
    [
        {"updates": 3},
        {"step": 25},
        {"digests": {}},
        {"seal": 0},
        {"step": None},
        [],
        None,
        {"step": "20", "seal": "x"},
    ],
)
def test_edited_counters_are_refused(tmp_path: Path, edit: Any, caplog: pytest.LogCaptureFixture) -> None:
    save_checkpoint(tmp_path, state(10))
    file = save_checkpoint(tmp_path, state(20)) / "state.json"
    stated = json.loads(file.read_text())
    file.write_text(json.dumps({**stated, **edit} if isinstance(edit, dict) else edit))
    assert newest_intact(tmp_path) == 10
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]


def test_checkpoint_under_another_step_s_name_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(10)).rename(tmp_path / "step-00000030")
    assert newest_intact(tmp_path) == 0


def test_deeply_nested_state_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(10))
    (save_checkpoint(tmp_path, state(20)) / "state.json").write_text('{"a": ' * 10_000 + "1" + "}" * 10_000)
    assert newest_intact(tmp_path) == 10


def test_half_written_checkpoint_does_not_count(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(10))
    (tmp_path / ".step-00000020.partial").mkdir()
    assert latest_step(tmp_path) == 10


def test_without_a_checkpoint_a_run_starts_at_zero(tmp_path: Path) -> None:
    assert newest_intact(tmp_path) == 0
    assert latest_step(tmp_path) == 0


def test_hiccup_of_the_storage_is_waited_for_and_a_full_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "PAUSES_S", (0, 0))
    write, errors = checkpoint._write, [OSError(errno.EIO, "hiccup"), OSError(errno.ESTALE, "stale")]

    def shaky(folder: Path, one: TrainState) -> Path:
        if errors:
            raise errors.pop(0)
        return write(folder, one)

    monkeypatch.setattr(checkpoint, "_write", shaky)
    save_checkpoint(tmp_path, state(5))
    assert newest_intact(tmp_path) == 5
    errors.append(OSError(errno.ENOSPC, "full"))
    with pytest.raises(OSError, match="full"):
        save_checkpoint(tmp_path, state(6))
    assert newest_intact(tmp_path) == 5
