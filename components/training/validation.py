"""The loss on held-out samples while a run trains: its curve, and what a search compares trials by.

Measuring changes nothing that the run learns: no dropout, no gradients, and no random number is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from components.batching.collator import Collator
from components.batching.conversation import Encoder
from components.batching.packing import LENGTHS_ON_GPUS
from components.batching.sampler import Plan, alone, deal
from components.errors import UserError
from components.training.job import Job
from components.training.journal import VALIDATION_FILE, append, read_journal
from components.training.kept import Kept


class Validator:
    """Measures the mean loss over the supervised tokens of the validation split, with all ranks."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        encoder: Encoder,
        image_processor: Any,
        num_parameters: Mapping[str, int],
        kept: Kept,
    ) -> None:
        assert job.validation
        recipe = job.recipe
        self._file, self._plan, self._every = job.folder / VALIDATION_FILE, plan, job.validation.every_steps
        self._num_parameters = {part: number for part, number in num_parameters.items() if part != "total"}
        samples = kept.samples(job, "validation")
        multiple = LENGTHS_ON_GPUS if job.training.use_gpu else 1
        collate = Collator(samples, encoder, image_processor, recipe.image, recipe.max_length, multiple)
        self._collate = kept.collated(collate, job)
        units = evenly(samples.starts, job.validation.max_samples)
        units = units if job.training.shared_prefix else alone(units)
        self._rank, workers = dist.get_rank(), dist.get_world_size()
        micro_batches = -(-sum(map(len, units)) // (workers * job.training.micro_batch))
        self._parts = deal(units, samples.lengths, samples.has_image, self._rank, workers, micro_batches)

    def is_due(self, step: int) -> bool:
        return step % self._every == 0 or step == self._plan.steps

    def measure(self, engine: Any, step: int) -> None:
        """Measure after `step` and write a line of validation.jsonl. Every rank must call it.

        UserError where the loss is not finite: a run that has diverged does not recover.
        """
        device = engine.device
        sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, supervised tokens, samples
        engine.eval()
        with torch.no_grad():
            for part in self._parts:
                batch = self._collate(part)
                pixels = batch.pixel_values
                tokens = {name: tensor.to(device) for name, tensor in batch.tokens.items()}
                loss = engine(tokens, None if pixels is None else pixels.to(device))
                found = [float(loss), batch.num_supervised, batch.num_samples]
                sums += torch.tensor(found, dtype=torch.float64, device=device)
        engine.train()
        dist.all_reduce(sums)
        total, supervised, num_samples = sums.tolist()
        mean = total / max(1.0, supervised)
        if not math.isfinite(mean):
            raise UserError(f"the validation loss is {mean} after step {step}: the run diverged; lower learning rates")
        if self._rank == 0:
            line = {
                "step": step,
                "of": self._plan.steps,
                "epoch": step / self._plan.steps_per_epoch,
                "validation_loss": mean,
                "validation_samples": int(num_samples),
            }
            append(self._file, {**line, **{f"{part}_parameters": n for part, n in self._num_parameters.items()}})


def lacks_validation(job: Job, step: int) -> bool:
    """Whether the run is to be watched and was not after `step`."""
    lines = read_journal(job.folder / VALIDATION_FILE)
    return job.validation is not None and all(line["step"] != step for line in lines)


def evenly(starts: np.ndarray, most: int) -> list[np.ndarray]:
    """Samples row by row; where there are more than `most` (0: no limit), those of rows at even distances."""
    rows = np.arange(len(starts) - 1)
    if 0 < most < starts[-1]:
        rows = rows[np.linspace(0, len(rows) - 1, max(1, len(rows) * most // int(starts[-1])), dtype=np.int64)]
    return [np.arange(int(starts[row]), int(starts[row + 1])) for row in rows]
