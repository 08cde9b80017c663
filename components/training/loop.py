"""The training loop: one worker's part of a run. It knows torch.distributed and DeepSpeed, nothing of Ray."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist

from components.batching.collator import Batch, Collator
from components.batching.conversation import Encoder
from components.batching.packing import LENGTHS_ON_GPUS
from components.batching.prefetch import ahead
from components.batching.sampler import Plan, Samples, alone, deal
from components.errors import UserError
from components.model.assemble import build, check_fit, num_parameters, to_precision, trainable_groups
from components.model.base import read_config
from components.model.language import check_window
from components.model.vision_tower import stop_after_last_level
from components.model.weights import load_connector
from components.training.checkpoint import (
    CHECKPOINTS,
    TrainState,
    discard_after,
    load_checkpoint,
    newest_intact,
    save_checkpoint,
)
from components.training.engine import assert_trains, capture, restore, start_engine
from components.training.guard import Guard
from components.training.job import Job, balance_weight
from components.training.journal import METRICS_FILE, Journal, read_journal
from components.training.kept import Kept
from components.training.loss import SupervisedLoss
from components.training.parts import parts_of, write_parts
from components.training.step import Figures, train_step
from components.training.validation import Validator, lacks_validation

READERS = 1  # threads that read and decode ahead of the step
SUSPECTS_SHOWN = 16  # of the samples that a bad step may be due to


Written = Callable[[bool], object]


def train(job: Job, written: Written = lambda saved: None) -> None:
    """Train from the newest checkpoint of `job.folder` to the end and store the parts; returns at once if all is there.

    Called by every worker, in an initialised process group. `written` is called by rank 0 when it has written to
    `job.folder`: with True where that was a checkpoint or the parts; the other ranks wait for it then.
    """
    for _ in training(job, Kept(0), written):
        pass


def training(job: Job, kept: Kept, written: Written = lambda saved: None) -> Generator[None, None, None]:
    """As `train`, pausing after each validation; closed there, it ends without more ado.

    kept: what earlier runs of this process have left for this one.
    """
    try:
        yield from _training(job, kept, written)
    except torch.OutOfMemoryError as error:  # another start would fill the device again
        raise UserError(
            f"{job.stage}: the GPU's memory is full ({'. '.join(str(error).split('. ')[:2])}); lower "
            f"training.micro_batch ({job.training.micro_batch}) or set training.activation_checkpointing: neither "
            "changes what is learnt; what fits is shown by: lea plan --gpu-memory 80GiB"
        ) from error


def _training(job: Job, kept: Kept, written: Written) -> Generator[None, None, None]:
    torch.set_num_threads(job.training.threads_per_worker)
    kept.turn_to(job.seed)
    samples = kept.samples(job, "train")
    plan = Plan(samples.starts, job.recipe.global_batch, job.recipe.epochs, job.seed)
    state = _agreed_checkpoint(job)
    if state is not None and state.step == plan.steps and parts_of(job) and not lacks_validation(job, plan.steps):
        dist.barrier()  # all have read the run's folder, which a worker that is done may remove
        return
    run = _Run(job, samples, plan, state, kept, written)
    steps = ahead(run.prepare, range(run.done, plan.steps), READERS)
    with closing(steps):
        for units, batches in steps:
            if run.step(units, batches):
                yield
    run.close()


class _Run:
    """One worker's part of a run, opened at `state` or at the start: `step` by step, then `close`."""

    def __init__(
        self, job: Job, samples: Samples, plan: Plan, state: TrainState | None, kept: Kept, written: Written
    ) -> None:
        self._job, self._samples, self._plan, self._state, self._kept = job, samples, plan, state, kept
        self._written = written
        self._rank, self._workers = dist.get_rank(), dist.get_world_size()
        self._micro_batches = -(-job.recipe.global_batch // (self._workers * job.training.micro_batch))
        self._balance = balance_weight(job.adapter)
        self._refused = self._read = 0
        self.done = self._updates = self._saved = 0
        self._build()
        past = [line for line in read_journal(job.folder / METRICS_FILE) if state and line["step"] <= state.step]
        self._guard = Guard(job.training.spike, [line["loss"] for line in past if not line["skipped"]])
        if state is not None:
            restore(self._engine, state)
            assert_trains(self._engine, self._names)
            self.done, self._updates, self._saved = state.step, state.updates, state.step
        dist.barrier()  # all have read what is now cut back
        self._journal = None
        if self._rank == 0:
            discard_after(job.folder / CHECKPOINTS, self.done)
            self._journal = Journal(job.folder, self.done)
        if self._validator and self.done and self._validator.is_due(self.done) and lacks_validation(job, self.done):
            self._validator.measure(self._engine, self.done)  # trained unwatched so far
        self._started = time.monotonic()

    def _build(self) -> None:
        """Model, engine, collator and validator."""
        job, recipe, training = self._job, self._job.recipe, self._job.training
        check_fit(job.base, job.vce, job.adapter, job.vlora)
        check_window(read_config(job.base), recipe.max_length, f"{job.stage}.max_length")
        self._base = base = self._kept.base(job)
        torch.manual_seed(job.seed)  # fresh VCE and adapter: the same on every rank, whoever read the base
        model, self._wrapped = build(
            base, job.vce, job.adapter, job.vlora, train_language_model=job.trains_language_model
        )
        if job.start:
            load_connector(model, job.start)
        stop_after_last_level(model)
        to_precision(model, training.precision)
        self._kept.remember_features(model)
        model.train()
        sizes = num_parameters(model)
        self._names = {name for members in trainable_groups(model).values() for name, _ in members}
        encoder = Encoder(base.tokenizer, recipe.template, model.config.image_token_id, model.config.image_seq_length)
        multiple = LENGTHS_ON_GPUS if training.use_gpu else 1
        self._collate = self._kept.collated(
            Collator(self._samples, encoder, base.image_processor, recipe.image, recipe.max_length, multiple), job
        )
        self._engine = start_engine(
            SupervisedLoss(model), recipe, training, self._plan.steps, self._micro_batches, self._workers
        )
        assert_trains(self._engine, self._names)
        watched = job.validation is not None
        validator = Validator(job, self._plan, encoder, base.image_processor, sizes, self._kept) if watched else None
        self._validator = validator

    def prepare(self, step: int) -> tuple[list[np.ndarray], list[Batch]]:
        """The units of a step (shared-prefix groups or lone samples) and this worker's micro-batches of them."""
        units = self._plan.batch(step) if self._job.training.shared_prefix else alone(self._plan.batch(step))
        samples = self._samples
        parts = deal(units, samples.lengths, samples.has_image, self._rank, self._workers, self._micro_batches)
        return units, [self._collate(part) for part in parts]

    def step(self, units: Sequence[np.ndarray], batches: Sequence[Batch]) -> bool:
        """Learn from one global batch; journal, validate and save where that is due. Was it validated?"""
        torch.manual_seed(hash_of(self._job.seed, self.done, self._rank))  # dropout: by seed, step and rank alone
        figures = train_step(self._engine, batches, self._guard, self._balance)
        suspects = self._suspects(figures, units) if figures.complaint else None
        if figures.complaint and self._job.training.bad_step == "stop":
            self._stop(figures, suspects)
        self.done += 1
        self._updates += not figures.complaint
        self._check_refused(batches)
        if self._journal:
            self._write(self._journal, figures, suspects)
        validated = self._validator is not None and self._validator.is_due(self.done)
        if self._validator and validated:
            self._validator.measure(self._engine, self.done)
        if self.done % self._job.training.checkpoint_every_steps == 0 or self.done == self._plan.steps:
            self._save()
        elif self._journal:
            self._written(False)
        self._started = time.monotonic()
        return validated

    def close(self) -> None:
        """Store what was learnt: connector and adapter, or language model."""
        if self._rank == 0:
            assert self._state is not None, "a run has at least one step"
            write_parts(self._job, self._base.reference, self._state.weights, self._wrapped)
            self._written(True)
        dist.barrier()

    def _save(self) -> None:
        self._state, self._saved = capture(self._engine, self.done, self._updates), self.done
        if self._journal:
            self._journal.settle()
            keep = 1 if self.done == self._plan.steps else 2
            save_checkpoint(self._job.folder / CHECKPOINTS, self._state, keep=keep)
            self._written(True)
        dist.barrier()

    def _stop(self, figures: Figures, suspects: str | None) -> NoReturn:
        if self.done > self._saved:
            self._save()
        raise UserError(
            f"{self._job.stage}: step {self.done + 1}: {figures.complaint} (samples {suspects}); what was learnt "
            "before is saved: mend these samples or lower the learning rate, or set training.bad_step to skip"
        )

    def _check_refused(self, batches: Sequence[Batch]) -> None:
        """UserError where too many samples have no token to learn from."""
        self._refused += sum(batch.num_refused for batch in batches)
        self._read += sum(batch.num_refused + batch.num_samples for batch in batches)
        allowed = self._job.training.max_refused
        sure = self._read >= 200 or self.done % self._plan.steps_per_epoch == 0
        if sure and self._refused > allowed * self._read:
            raise UserError(
                f"{self._refused} of {self._read} samples have no token to learn from within max_length "
                f"{self._job.recipe.max_length}: raise max_length of the stage, or training.max_refused ({allowed})"
            )

    def _write(self, journal: Journal, figures: Figures, suspects: str | None) -> None:
        learnt = _learnt(figures, self.done, self._plan, self._engine.get_lr()[-1])
        if self._balance:
            learnt["balance_loss"] = figures.balance_loss
        skipped = {"step": self.done, "why": figures.complaint, "samples": suspects} if figures.complaint else None
        journal.write(learnt, _took(figures, self.done, time.monotonic() - self._started), skipped)

    def _suspects(self, figures: Figures, units: Sequence[np.ndarray]) -> str:
        """Ids of the samples that a bad step may be due to: the worst micro-batch's, or all of the step's."""
        chosen, samples = list(units), self._samples
        if figures.worst:
            worker, number = figures.worst
            parts = deal(units, samples.lengths, samples.has_image, worker, self._workers, self._micro_batches)
            chosen = parts[number]
        numbers = [int(number) for unit in chosen for number in unit]
        found = [samples[number] for number in numbers[:SUSPECTS_SHOWN]]
        more = f" and {len(numbers) - SUSPECTS_SHOWN} more" if len(numbers) > SUSPECTS_SHOWN else ""
        return ", ".join(f"{row.source}/{sample.id}" for row, sample in found) + more


def _agreed_checkpoint(job: Job) -> TrainState | None:
    """The newest undamaged checkpoint; rank 0 decides which, so that no hiccup of storage divides the workers."""
    folder = job.folder / CHECKPOINTS
    step = torch.tensor([newest_intact(folder) if dist.get_rank() == 0 else 0])
    step = step.cuda() if job.training.use_gpu else step
    dist.broadcast(step, src=0)
    return load_checkpoint(folder, int(step)) if int(step) else None


def _learnt(figures: Figures, done: int, plan: Plan, rate: float) -> dict[str, Any]:
    """A line of metrics.jsonl: the same however often a run was stopped."""
    return {
        "step": done,
        "of": plan.steps,
        "epoch": plan.epoch_of(done - 1) + 1,
        "samples": figures.samples,
        "loss": figures.loss if np.isfinite(figures.loss) else None,
        "learning_rate": rate,
        "grad_norm": figures.grad_norm,
        "padding_share": 1 - figures.tokens / figures.places,
        "skipped": int(figures.complaint is not None),
    }


def _took(figures: Figures, done: int, seconds: float) -> dict[str, Any]:
    return {
        "step": done,
        "time": time.time(),
        "seconds": seconds,
        "tokens_per_s": figures.tokens / seconds,
        "samples_per_s": figures.samples / seconds,
        "workers": dist.get_world_size(),
        "memory_peak_bytes": memory_peak(),
    }


def forget_memory_peak() -> None:
    """Before another run in the same process: `memory_peak` counts from here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # not every system lets a process set its peak back
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def memory_peak() -> int:
    """The peak memory of this worker in bytes: of CUDA tensors where there are any, else of the whole process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def hash_of(*numbers: int) -> int:
    """A well-mixed 63-bit seed from small numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
