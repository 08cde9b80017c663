"""The training loop: one worker's part of a run. It knows torch.distributed and DeepSpeed, nothing of Ray."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from components.batching.collator import Batch, Collator
from components.batching.conversation import Encoder
from components.batching.prefetch import ahead
from components.batching.sampler import Plan, Samples, alone, deal
from components.errors import UserError
from components.model.assemble import build, check_fit, num_parameters, to_precision, trainable_groups
from components.model.base import load_base
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
from components.training.loss import SupervisedLoss
from components.training.parts import parts_of, write_parts
from components.training.step import Figures, train_step
from components.training.validation import Validator, lacks_validation

READERS = 1  # threads that read and decode ahead of the step
SAMPLES_TOLD = 16  # of those that a bad step may be due to


def train(job: Job) -> None:
    """Train from the newest checkpoint of `job.folder` to the end and store the parts; returns at once if all is there.

    Called by every worker, in an initialised process group.
    """
    rank, workers = dist.get_rank(), dist.get_world_size()
    training, recipe = job.training, job.recipe
    torch.set_num_threads(training.threads_per_worker)
    samples = Samples(job.prepared, job.assignments, recipe.sources, recipe.tasks, "train")
    plan = Plan(samples.starts, recipe.global_batch, recipe.epochs, job.seed)
    state = _agreed_checkpoint(job)
    if state is not None and state.step == plan.steps and parts_of(job) and not lacks_validation(job, plan.steps):
        return

    check_fit(job.base, job.vce, job.adapter, job.vlora)
    torch.manual_seed(job.seed)  # fresh VCE and adapter: the same on every rank
    base = load_base(job.base)
    model, wrapped = build(base, job.vce, job.adapter, job.vlora, train_language_model=job.trains_language_model)
    if job.start:
        load_connector(model, job.start)
    stop_after_last_level(model)
    to_precision(model, training.precision)
    model.train()
    sizes = num_parameters(model)
    names = {name for members in trainable_groups(model).values() for name, _ in members}
    encoder = Encoder(base.tokenizer, recipe.template, model.config.image_token_id, model.config.image_seq_length)
    collate = Collator(samples, encoder, base.image_processor, recipe.image, recipe.max_length)
    micro_batches = -(-recipe.global_batch // (workers * training.micro_batch))
    engine = start_engine(SupervisedLoss(model), recipe, training, plan.steps, micro_batches, workers)
    assert_trains(engine, names)

    done = updates = saved = 0
    past = [line for line in read_journal(job.folder / METRICS_FILE) if state and line["step"] <= state.step]
    guard = Guard(training.spike, [line["loss"] for line in past if not line["skipped"]])
    balance = balance_weight(job.adapter)
    if state is not None:
        restore(engine, state)
        assert_trains(engine, names)
        done, updates, saved = state.step, state.updates, state.step
    dist.barrier()  # all have read what is now cut back
    journal = None
    if rank == 0:
        discard_after(job.folder / CHECKPOINTS, done)
        journal = Journal(job.folder, done)

    def save() -> None:
        nonlocal state, saved
        state, saved = capture(engine, done, updates), done
        if journal:
            journal.settle()
            save_checkpoint(job.folder / CHECKPOINTS, state, keep=1 if done == plan.steps else 2)
        dist.barrier()

    validator = Validator(job, plan, encoder, base.image_processor, sizes) if job.validation else None
    if validator and done and validator.is_due(done) and lacks_validation(job, done):  # trained unwatched so far
        validator.measure(engine, done)

    def prepared(step: int) -> tuple[list[np.ndarray], list[Batch]]:
        units = plan.batch(step) if training.shared_prefix else alone(plan.batch(step))
        parts = deal(units, samples.lengths, samples.has_image, rank, workers, micro_batches)
        return units, [collate(part) for part in parts]

    refused = read = 0
    started = time.monotonic()
    for units, batches in ahead(prepared, range(done, plan.steps), READERS):
        torch.manual_seed(hash_of(job.seed, done, rank))  # dropout depends on seed, step and rank alone
        figures = train_step(engine, batches, guard, balance)
        told = None
        if figures.complaint:
            told = _suspects(figures, samples, units, workers, micro_batches)
            if training.bad_step == "stop":
                if done > saved:
                    save()
                raise UserError(
                    f"{job.stage}: step {done + 1}: {figures.complaint} (samples {told}); what was learnt before is "
                    "saved: mend these samples or lower the learning rate, or set training.bad_step to skip"
                )
        done += 1
        updates += not figures.complaint
        refused += sum(batch.num_refused for batch in batches)
        read += sum(batch.num_refused + batch.num_samples for batch in batches)
        if (read >= 200 or done % plan.steps_per_epoch == 0) and refused > training.max_refused * read:
            raise UserError(
                f"{refused} of {read} samples have no token to learn from within max_length {recipe.max_length}: "
                f"raise max_length of the stage, or training.max_refused ({training.max_refused})"
            )
        if journal:
            skipped = {"step": done, "why": figures.complaint, "samples": told} if figures.complaint else None
            learnt = _learnt(figures, done, plan, engine.get_lr()[-1])
            if balance:
                learnt["balance_loss"] = figures.balance_loss
            journal.write(learnt, _took(figures, done, time.monotonic() - started), skipped)
        if validator and validator.is_due(done):
            validator.measure(engine, done)
        if done % training.checkpoint_every_steps == 0 or done == plan.steps:
            save()
        started = time.monotonic()
    if rank == 0:
        assert state is not None, "a run has at least one step"
        write_parts(job, base.reference, state.weights, wrapped)
    dist.barrier()


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


def memory_peak() -> int:
    """The most bytes that this worker has held: of CUDA tensors where there are any, else of the whole process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _suspects(figures: Figures, samples: Samples, units: Sequence[np.ndarray], workers: int, micro_batches: int) -> str:
    """Ids of the samples that a bad step may be due to: the worst micro-batch's, or all of the step's."""
    chosen = list(units)
    if figures.worst:
        worker, number = figures.worst
        chosen = deal(units, samples.lengths, samples.has_image, worker, workers, micro_batches)[number]
    numbers = [int(number) for unit in chosen for number in unit]
    found = [samples[number] for number in numbers[:SAMPLES_TOLD]]
    more = f" and {len(numbers) - SAMPLES_TOLD} more" if len(numbers) > SAMPLES_TOLD else ""
    return ", ".join(f"{row.source}/{sample.id}" for row, sample in found) + more


def hash_of(*numbers: int) -> int:
    """A well-mixed 63-bit seed from small numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
