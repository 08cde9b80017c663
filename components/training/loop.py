"""The training loop: one worker's part of a run. It knows torch.distributed and DeepSpeed, nothing of Ray."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from components.adapters import RouterWeights
from components.data.conversation import Encoder
from components.data.loading import Collator, Plan, Samples, alone, deal
from components.data.packing import PADDING
from components.errors import UserError
from components.files import write_text
from components.model.assemble import build, load_connector, precision_of, trainable_groups
from components.model.base import load_base
from components.training.checkpoint import load_latest, save_checkpoint
from components.training.engine import capture, restore, start_engine
from components.training.job import Job, balance_weight
from components.training.loss import SupervisedLoss

CHECKPOINTS, METRICS_FILE, TIMINGS_FILE = "checkpoints", "metrics.jsonl", "timings.jsonl"


def train(job: Job) -> None:
    """Train from the newest checkpoint of `job.folder` to the end; returns at once when it is there.

    Called by every worker, in an initialised process group. The sum of losses is divided by the number of
    supervised tokens of the global batch, so that the result does not depend on workers or micro-batches.
    """
    rank, workers = dist.get_rank(), dist.get_world_size()
    training, recipe = job.training, job.recipe
    torch.set_num_threads(training.threads_per_worker)
    samples = Samples(job.prepared, job.assignments, recipe.sources, recipe.tasks, "train")
    plan = Plan(samples.starts, recipe.global_batch, recipe.epochs, job.seed)
    state = load_latest(job.folder / CHECKPOINTS)
    if state is not None and state.step == plan.steps:
        return

    torch.manual_seed(job.seed)  # fresh VCE and adapter: the same on every rank
    base = load_base(job.base)
    model, _ = build(base, job.vce, job.adapter)
    if job.start:
        load_connector(model, job.start)
    model.to(precision_of(training.precision))  # pyright: ignore[reportArgumentType]
    model.train()
    names = {name for members in trainable_groups(model).values() for name, _ in members}
    encoder = Encoder(base.tokenizer, recipe.template, model.config.image_token_id, model.config.image_seq_length)
    collate = Collator(samples, encoder, base.image_processor, recipe.image, recipe.max_length)
    micro_batches = -(-recipe.global_batch // (workers * training.micro_batch))
    engine = start_engine(SupervisedLoss(model), recipe, training, plan.steps, micro_batches, workers)
    wrapped = {name for name, p in engine.module.llava.named_parameters() if p.requires_grad}
    assert wrapped == names, f"DeepSpeed changed what is trained: {wrapped ^ names}"

    done = 0
    if state is not None:
        restore(engine, state)
        done = state.step
    journal = Journal(job.folder, done) if rank == 0 else None
    while done < plan.steps:
        started = time.monotonic()
        torch.manual_seed(hash_of(job.seed, done, rank))  # dropout depends on seed, step and rank alone
        units = plan.batch(done) if training.shared_prefix else alone(plan.batch(done))
        parts = deal(units, samples.lengths, rank, workers, micro_batches)
        figures = _step(engine, [collate(part) for part in parts], workers, balance_weight(job.adapter))
        done += 1
        if collate.read >= 200 or done % plan.steps_per_epoch == 0:
            _stop_when_too_many_are_refused(collate, training.max_refused)
        if journal:
            seconds = time.monotonic() - started
            learnt = {
                "step": done,
                "of": plan.steps,
                "epoch": plan.epoch_of(done - 1) + 1,
                "samples": int(figures["samples"]),
                "loss": figures["loss"],
                "learning_rate": engine.get_lr()[-1],
                "grad_norm": float(engine.get_global_grad_norm() or 0.0),
                "padding_share": 1 - figures["tokens"] / figures["places"],
            }
            if balance_weight(job.adapter):
                learnt["balance_loss"] = figures["balance_loss"]
            took = {
                "step": done,
                "time": time.time(),
                "seconds": seconds,
                "tokens_per_s": figures["tokens"] / seconds,
                "samples_per_s": figures["samples"] / seconds,
            }
            journal.write(learnt, took)
        if done % training.checkpoint_every_steps == 0 or done == plan.steps:
            captured = capture(engine, done)
            if rank == 0:
                save_checkpoint(job.folder / CHECKPOINTS, captured, keep=1 if done == plan.steps else 2)
            dist.barrier()


def _step(engine: Any, batches: list[Any], workers: int, balance: float) -> dict[str, float]:
    """One optimiser step over this worker's micro-batches; figures of the whole global batch.

    `balance` weighs the experts' load-balancing loss: that of each micro-batch, in proportion to its tokens.
    """
    device = engine.device
    counts = torch.tensor(
        [
            sum(batch.num_supervised for batch in batches),
            sum(batch.num_samples for batch in batches),
            sum(batch.num_tokens for batch in batches),
            sum(batch.tokens["ids"].numel() for batch in batches),
        ],
        dtype=torch.float64,
        device=device,
    )
    dist.all_reduce(counts)
    supervised, num_samples, tokens, places = counts.tolist()
    averaged = workers * len(batches)  # DeepSpeed averages over workers and micro-batches
    scale = averaged / max(1.0, supervised)
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    for batch in batches:
        pixels = batch.pixel_values
        inputs = {name: tensor.to(device) for name, tensor in batch.tokens.items()}
        routed = RouterWeights(engine.module.llava)
        routed.mask = inputs["segments"] != PADDING
        with routed if balance else nullcontext():
            loss = engine(inputs, None if pixels is None else pixels.to(device))
        totals[0] += loss.detach().double()
        loss = loss * scale
        if balance:
            unevenness = routed.balance_loss() * batch.num_tokens
            totals[1] += unevenness.detach().double()
            loss = loss + unevenness * (balance * averaged / tokens)
        engine.backward(loss)
        engine.step()
    dist.all_reduce(totals)
    figures = {"loss": float(totals[0]) / max(1.0, supervised), "samples": num_samples}
    return figures | {"tokens": tokens, "places": places, "balance_loss": float(totals[1]) / tokens}


class Journal:
    """What each step learnt (metrics.jsonl, the same however often a run was stopped) and took (timings.jsonl).

    At a resume both are cut back to what the checkpoint covers.
    """

    def __init__(self, folder: Path, covered: int) -> None:
        self._files = [folder / METRICS_FILE, folder / TIMINGS_FILE]
        for path in self._files:
            kept = [line for line in read_journal(path) if line["step"] <= covered]
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, *lines: dict[str, Any]) -> None:
        for path, line in zip(self._files, lines, strict=True):
            with path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl; a last line that was cut off while it was written is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def hash_of(*numbers: int) -> int:
    """A well-mixed 63-bit seed from small numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _stop_when_too_many_are_refused(collate: Collator, allowed: float) -> None:
    if collate.refused > allowed * collate.read:
        raise UserError(
            f"{collate.refused} of {collate.read} samples have no token to learn from within max_length "
            f"{collate.max_length}: raise max_length of the stage, or training.max_refused ({allowed})"
        )
