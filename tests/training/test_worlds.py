"""A run that goes on with other numbers of workers and other ZeRO stages than it began with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from components.params import Params
from components.training import loop, stage
from components.training.job import Job, from_message, to_message
from components.training.journal import METRICS_FILE, TIMINGS_FILE, read_journal
from tests.training.processes import run
from tests.workspace import prepare_workspace

pytestmark = pytest.mark.slow
STEPS = 12


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Params]:
    folder, before = tmp_path_factory.mktemp("worlds"), Path.cwd()
    os.chdir(folder)
    yield prepare_workspace(folder, pretrain__epochs=STEPS // 2)
    os.chdir(before)


def _work(rank: int, message: dict[str, Any], workers: int, until: int, store: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(workers), LOCAL_RANK=str(rank), DS_ACCELERATOR="cpu")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    dist.init_process_group("gloo", rank=rank, world_size=workers, store=dist.FileStore(store, workers))  # pyright: ignore
    whole: Callable[..., Any] = loop.ahead
    loop.ahead = lambda make, steps, readers: whole(make, range(steps.start, until), readers)
    loop.train(from_message(message))
    dist.destroy_process_group()


def train(job: Job, workers: int, zero_stage: int, until: int = STEPS) -> None:
    training = job.training.model_copy(update={"workers": workers, "zero_stage": zero_stage})
    job = replace(job, training=training)
    store = job.folder.parent / f"store-{job.folder.name}-{until}"
    job.folder.mkdir(parents=True, exist_ok=True)
    run(_work, to_message(job), workers, until, str(store), processes=workers)


def test_workers_may_go_and_come_back(workspace: Params, tmp_path: Path) -> None:
    """2 -> 1 -> 2 workers under ZeRO 2 -> 0 -> 3: the same samples in the same order, the same losses."""
    made = stage.make_job("pretrain", workspace, workspace.pretrain, None, None)
    calm, moved = (replace(made, folder=tmp_path / name) for name in ("calm", "moved"))
    train(calm, 2, 2)
    train(moved, 2, 2, until=5)  # the last checkpoint is of step 4: one step is done again
    train(moved, 1, 0, until=9)
    train(moved, 2, 3)
    workers = [line["workers"] for line in read_journal(moved.folder / TIMINGS_FILE)]
    assert workers == [2] * 4 + [1] * 4 + [2] * 4
    kept = ("step", "epoch", "samples", "learning_rate")
    lines, others = (read_journal(job.folder / METRICS_FILE) for job in (calm, moved))
    assert [[line[name] for name in kept] for line in lines] == [[line[name] for name in kept] for line in others]
    losses = [torch.tensor([line["loss"] for line in found]) for found in (lines, others)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    assert len(set(losses[0].tolist())) == STEPS
