"""One optimiser step over a worker's micro-batches. All workers take it together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from components.adapters import RouterWeights
from components.batching.collator import Batch
from components.batching.tree import PADDING
from components.training.engine import plain_optimizer
from components.training.guard import Guard


@dataclass(frozen=True)
class Figures:
    """Of the whole global batch; the same on every worker."""

    loss: float  # nats per supervised token
    grad_norm: float  # before clipping
    samples: int
    tokens: int
    places: int  # tokens and padding
    balance_loss: float  # of the experts' routers, before its weight; 0 where there are none
    complaint: str | None  # why nothing was learnt from the step
    worst: tuple[int, int] | None  # worker and micro-batch that the complaint is about; None: unknown


def train_step(engine: Any, batches: Sequence[Batch], guard: Guard, balance: float = 0.0) -> Figures:
    """Forward, backward, update; a step that the guard complains of changes nothing but the schedule.

    The sum of losses is divided by the number of supervised tokens of the global batch, so that the result does not
    depend on workers or micro-batches. The loss is judged before the last backward pass: a bad step is given a
    gradient that is not finite, which the engine discards under any ZeRO stage.

    `balance` weighs the experts' load-balancing loss: that of each micro-batch, in proportion to its tokens.
    """
    device, workers = engine.device, dist.get_world_size()
    counts = torch.tensor([_counts(batch) for batch in batches], dtype=torch.float64).sum(0).to(device)
    dist.all_reduce(counts)
    supervised, num_samples, tokens, places = counts.tolist()
    averaged = workers * len(batches)  # DeepSpeed averages over workers and micro-batches
    scale = averaged / max(1.0, supervised)
    sums = torch.zeros(len(batches), 3, dtype=torch.float64, device=device)  # loss, supervised tokens, unevenness
    losses, complaint = sums.new_zeros(workers, len(batches), 3), None  # those of all workers, once known
    for number, batch in enumerate(batches):
        pixels = batch.pixel_values
        inputs = {name: tensor.to(device) for name, tensor in batch.tokens.items()}
        routed = RouterWeights(engine.module.llava) if balance else None  # it walks through all modules
        if routed:
            routed.mask = inputs["segments"] != PADDING
        with routed or nullcontext():
            loss = engine(inputs, None if pixels is None else pixels.to(device))
        sums[number, 0], sums[number, 1] = loss.detach().double(), batch.num_supervised
        unevenness = routed.balance_loss() * batch.num_tokens if routed else loss.new_zeros(())
        sums[number, 2] = unevenness.detach().double()
        if number == len(batches) - 1:
            dist.all_gather(list(losses.unbind()), sums)
            complaint = guard.complaint(float(losses[..., 0].sum()) / max(1.0, supervised))
            scale = math.nan if complaint else scale
        engine.backward(loss * scale + unevenness * (balance * averaged / tokens) if routed else loss * scale)
        if number < len(batches) - 1:
            engine.step()
    applied, norm = _update(engine)
    mean = float(losses[..., 0].sum()) / max(1.0, supervised)
    worst = _worst(losses) if complaint else None
    if applied:
        guard.learnt(mean)
    elif complaint is None:
        complaint = "a gradient is not finite"
    balance_loss = float(losses[..., 2].sum()) / tokens
    return Figures(mean, norm, int(num_samples), int(tokens), int(places), balance_loss, complaint, worst)


def _counts(batch: Batch) -> list[int]:
    return [batch.num_supervised, batch.num_samples, batch.num_tokens, batch.tokens["ids"].numel()]


def _update(engine: Any) -> tuple[bool, float]:
    """The optimiser's step: was it applied, and the norm of the gradient. The schedule moves on in any case."""
    plain = plain_optimizer(engine)
    if plain is not None:  # ZeRO 0: DeepSpeed would apply whatever there is, and gives no norm
        gradients = [p.grad for p in engine.module.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))  # no number where a gradient is none
        applied = math.isfinite(norm)
        with nullcontext() if applied else _without_update(engine, plain):
            engine.step()
    else:
        engine.step()
        applied = not engine.optimizer.overflow
        if not applied:
            engine.lr_scheduler.step()
        norm = float(engine.get_global_grad_norm() or 0.0)
    return applied, norm if math.isfinite(norm) and applied else 0.0


@contextmanager
def _without_update(engine: Any, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """DeepSpeed's step with the optimiser's own left out."""
    for parameter in engine.module.parameters():
        if parameter.grad is not None:
            parameter.grad.zero_()
    update, optimizer.step = optimizer.step, lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        optimizer.step = update  # type: ignore[method-assign]


def _worst(losses: torch.Tensor) -> tuple[int, int]:
    """Worker and micro-batch of the highest mean loss; one that is not finite is the highest."""
    means = torch.nan_to_num(losses[..., 0] / losses[..., 1].clamp(min=1), nan=math.inf, posinf=math.inf)
    place = int(means.argmax())
    return place // losses.shape[1], place % losses.shape[1]
