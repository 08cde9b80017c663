"""Memory of one GPU by ZeRO stage: weights, gradients, optimiser, activations, buffers.

With F frozen and P trained parameters of e bytes (2 in bf16, 4 in fp32) and N GPUs:

    stage   weights              gradients   optimiser (Adam's two moments; a master copy in fp32)
    0       e (F + P)            e P         8 P, with e = 2: 12 P
    1       e (F + P)            e P         12 P / N
    2       e (F + P)            e P / N     12 P / N
    3       e (F + P) / N        e P / N     12 P / N

Stage 3 also holds the whole weights that it has gathered, at most `stage3_max_live_parameters` of them. Stages 1 to 3
have a buffer of `reduce_bucket_size` numbers, by default as many as there are gradients. At the optimiser's step the
activations are gone and 8 P / N bytes are needed (gradients in fp32, Adam's denominator): the larger of the two counts.

Where all trained parameters are one tensor (components/training/flat.py), stages 0 to 2 hold between two backward
passes only the sum of the gradients, 4 P, and that only where a step has several micro-batches. During a pass gradients
come as activations go; at the step they count e P, joined e P more, and their sum 4 P.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from components.params import Training

STAGES = (0, 1, 2, 3)
REDUCE_BUCKET, MAX_LIVE = 500_000_000, 1_000_000_000  # DeepSpeed's defaults, in numbers


@dataclass(frozen=True)
class GpuMemory:
    """Bytes; `working` is what comes and goes: activations, or the optimiser's step where that needs more."""

    weights: int
    gradients: int
    optimiser: int
    buffers: int
    working: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def gpu_memory(
    frozen: int,
    trained: int,
    activations: int,
    training: Training,
    stage: int,
    workers: int | None = None,
    *,
    one_tensor: bool = False,
    accumulates: bool = True,
) -> GpuMemory:
    """Of one of `workers` GPUs (training.workers). frozen, trained: parameters; activations: bytes.

    accumulates: a step has several micro-batches.
    """
    size = 2 if training.precision == "bf16" else 4
    share = workers or training.workers
    zero: Mapping[str, Any] = training.deepspeed.get("zero_optimization", {})
    weights, gradients = size * (frozen + trained), size * trained
    if one_tensor and stage < 3:
        moments = 12 * trained // (share if stage else 1)
        sums = 4 * trained if accumulates else 0
        return GpuMemory(weights, sums, moments, 0, max(activations, 2 * gradients + 4 * trained - sums))
    if stage == 0:
        return GpuMemory(weights, gradients, (12 if size == 2 else 8) * trained, 0, max(activations, 4 * trained))
    buffers = int(zero.get("reduce_bucket_size", min(REDUCE_BUCKET, trained))) * size
    if stage == 3:
        gathered = int(zero.get("stage3_max_live_parameters", MAX_LIVE)) * size
        buffers += min(gathered, weights) if share > 1 else 0
        weights //= share
    if stage >= 2:
        gradients //= share
    return GpuMemory(weights, gradients, 12 * trained // share, buffers, max(activations, 8 * trained // share))
