"""Checkpoints: trainable tensors and optimiser moments by name, whatever the ZeRO stage and world size.

A checkpoint is complete or absent (written aside, then moved into place) and hashed; a damaged one is
passed over for the one before it. Random numbers and the place in the data need no storing: both are
functions of (seed, step).
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.digests import digest, file_digest
from components.errors import UserError
from components.files import fresh_folder, read_json, remove_folder, write_json, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
CHECKPOINTS, STATE_FILE = "checkpoints", "state.json"
TENSOR_SETS = ("weights", "exp_avg", "exp_avg_sq")
KEPT = 2  # newest checkpoints of a run that is not finished
PAUSES_S = (1, 4, 15)  # before a write that failed is tried again: storage has hiccups


@dataclass(frozen=True)
class TrainState:
    """All that training changes. Tensors are whole, fp32, on the CPU, named as in the model."""

    step: int  # optimiser steps done, with those that were skipped
    updates: int  # steps that were learnt from, as Adam counts them
    weights: Mapping[str, Tensor]
    exp_avg: Mapping[str, Tensor]
    exp_avg_sq: Mapping[str, Tensor]


def save_checkpoint(folder: Path, state: TrainState, keep: int = KEPT) -> Path:
    """Write a checkpoint under `folder` and remove all but the newest `keep`; a full disk is not waited for."""
    for pause in (*PAUSES_S, None):
        try:
            target = _write(folder, state)
            break
        except OSError as error:
            if pause is None or error.errno in (ENOSPC, EDQUOT):
                raise
            log.warning("checkpoint of step %d cannot be written (%s); trying again in %d s", state.step, error, pause)
            time.sleep(pause)
    for old in checkpoints(folder)[:-keep]:
        remove_folder(old)
    for left in folder.glob(".step-*.partial"):  # by a process that was killed
        shutil.rmtree(left)
    return target


def _write(folder: Path, state: TrainState) -> Path:
    target = folder / _name(state.step)
    with fresh_folder(target) as aside:
        digests = {}
        for name in TENSOR_SETS:
            file = aside / f"{name}.safetensors"
            write_tensors(file, getattr(state, name))
            _settle(file)
            digests[file.name] = file_digest(file)
        stated = {"step": state.step, "updates": state.updates, "digests": digests}
        write_json(aside / STATE_FILE, {**stated, "seal": digest(stated)})
    _settle(folder)
    return target


def _settle(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: a machine may lose its power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    return sorted(folder.glob("step-*"))


def latest_step(folder: Path) -> int:
    """Steps that the newest checkpoint covers, 0 without one. Cheap: nothing is verified."""
    found = checkpoints(folder)
    return step_of(found[-1].name) if found else 0


def step_of(name: str) -> int:
    """Steps that the checkpoint in a folder of this name covers."""
    return int(name.removeprefix("step-"))


def newest_intact(folder: Path, digest_of: Callable[[Path], str] = file_digest) -> int:
    """Step of the newest undamaged checkpoint, 0 without one. No tensor is read. digest_of: as of `is_intact`."""
    return next((step_of(path.name) for path in reversed(checkpoints(folder)) if is_intact(path, digest_of)), 0)


def is_intact(path: Path, digest_of: Callable[[Path], str] = file_digest) -> bool:
    """Whether a checkpoint's files are those that were written; a warning says what is wrong with it.

    digest_of: SHA-256 of a file; one that remembers where the same files are needed again at once.
    """
    try:
        state = _stated(path)
        for name, expected in state["digests"].items():
            if digest_of(path / name) != expected:
                raise UserError(f"{name} does not match its hash")
    except (OSError, UserError) as damage:
        log.warning("checkpoint %s is damaged (%s); trying the one before it", path, damage)
        return False
    return True


def is_intact_by(name: str, stated: bytes, digests: Mapping[str, str]) -> bool:
    """The same of a checkpoint that lies elsewhere.

    Args:
        name: of its folder.
        stated: the content of its state.json.
        digests: SHA-256 of its files by name.
    """
    try:
        state = _sealed(json.loads(stated), name)
        return all(digests.get(file) == expected for file, expected in state["digests"].items())
    except (ValueError, KeyError, TypeError, AttributeError, UserError):
        return False


def load_checkpoint(folder: Path, step: int) -> TrainState:
    """A checkpoint that `newest_intact` found."""
    from safetensors.torch import load_file

    path = folder / _name(step)
    state = _stated(path)
    tensors = {name: load_file(path / f"{name}.safetensors") for name in TENSOR_SETS}
    return TrainState(state["step"], state["updates"], **tensors)


def discard_after(folder: Path, step: int) -> None:
    """Remove the damaged checkpoints beyond the one that a run goes on from: they must not pass for newer ones."""
    for path in checkpoints(folder):
        if step_of(path.name) > step:
            remove_folder(path)


def _stated(path: Path) -> dict[str, Any]:
    """state.json as it was written. UserError where a counter or a digest was changed, or another folder's is here."""
    state = read_json(path / STATE_FILE, "the run goes on from the checkpoint before", ("seal",))
    return _sealed(state, path.name)


def _sealed(state: dict[str, Any], name: str) -> dict[str, Any]:
    seal = state.pop("seal")
    if seal != digest(state) or name != _name(state["step"]):
        raise UserError(f"{STATE_FILE} is not what was written there")
    return state


def _name(step: int) -> str:
    return f"step-{step:08d}"
