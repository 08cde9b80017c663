"""Checkpoints: trainable tensors and optimiser moments by name, whatever the ZeRO stage and world size.

A checkpoint is complete or absent (written aside, then moved into place) and hashed; a damaged one is
passed over for the one before it. Random numbers and the place in the data need no storing: both are
functions of (seed, step).
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from components.files import fresh_folder, write_json, write_tensors
from components.home import file_digest

log = logging.getLogger(__name__)
STATE_FILE = "state.json"
KEPT = 2  # newest checkpoints of a run that is not finished


@dataclass(frozen=True)
class TrainState:
    """All that training changes. Tensors are whole, fp32, on the CPU, named as in the model."""

    step: int  # optimiser steps done
    weights: Mapping[str, Tensor]
    exp_avg: Mapping[str, Tensor]
    exp_avg_sq: Mapping[str, Tensor]


def save_checkpoint(folder: Path, state: TrainState, keep: int = KEPT) -> Path:
    """Write a checkpoint under `folder` and remove all but the newest `keep`."""
    target = folder / f"step-{state.step:08d}"
    with fresh_folder(target) as aside:
        digests = {}
        for name in ("weights", "exp_avg", "exp_avg_sq"):
            file = aside / f"{name}.safetensors"
            write_tensors(file, getattr(state, name))
            digests[file.name] = file_digest(file)
        write_json(aside / STATE_FILE, {"step": state.step, "digests": digests})
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(folder.glob("step-*"))


def latest_step(folder: Path) -> int:
    """Steps that the newest checkpoint covers, 0 without one. Cheap: nothing is verified."""
    found = checkpoints(folder)
    return int(found[-1].name.removeprefix("step-")) if found else 0


def load_latest(folder: Path) -> TrainState | None:
    """The newest undamaged checkpoint, or None."""
    for path in reversed(checkpoints(folder)):
        try:
            return _load(path)
        except (OSError, ValueError, KeyError) as damage:
            log.warning("checkpoint %s is damaged (%s); trying the one before it", path, damage)
    return None


def _load(path: Path) -> TrainState:
    state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    for name, expected in state["digests"].items():
        if file_digest(path / name) != expected:
            raise ValueError(f"{name} does not match its hash")
    tensors = {name: load_file(path / f"{name}.safetensors") for name in ("weights", "exp_avg", "exp_avg_sq")}
    return TrainState(state["step"], **tensors)
