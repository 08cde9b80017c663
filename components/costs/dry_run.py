"""One training step of the real model on the meta device: shapes without numbers, so that its cost can be counted.

The step is the one that training runs (components.training.loss), so there is no formula that could drift from it.
Two things cannot be had from shapes alone and are answered here: how many tokens have a label (`nonzero` in the loss),
and the gradients of earlier micro-batches, which are there already, as in accumulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from components.costs.kernels import FLOPS, whole_kernels
from components.costs.peak_memory import PeakMemory
from components.model.connector import image_side
from components.training.loss import SupervisedLoss


@dataclass(frozen=True)
class Shape:
    """A micro-batch: sequences of `tokens` each (image tokens included), `supervised` of them with a label."""

    sequences: int
    tokens: int
    supervised: int
    images: int


@dataclass(frozen=True)
class Cost:
    """Of one micro-batch, forward and backward."""

    activations: int  # bytes at the peak, beyond weights, gradients and inputs
    forward_flops: int
    backward_flops: int  # recomputation included where activations are checkpointed


def dry_run(model: Any, shape: Shape, *, on_gpu: bool = False) -> Cost:
    """Count what a micro-batch costs. `model`: a LLaVA on the meta device, with its adapter, in its precision.

    on_gpu: kernels that only GPUs have count as theirs (kernels.py).
    """
    tokens, pixels = inputs(model, shape, torch.device("meta"))
    module = SupervisedLoss(model).train()
    gradients = []
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
        gradients += [] if parameter.grad is None else [parameter.grad]
    existing = [
        *tokens.values(),
        *([] if pixels is None else [pixels]),
        *model.parameters(),
        *model.buffers(),
        *gradients,
    ]
    with PeakMemory(*existing) as memory, _Shapes(shape.supervised) as run, whole_kernels(on_gpu):
        before = memory.alive
        loss = module(tokens, pixels)
        forward = run.flops
        loss.backward()
    return Cost(memory.peak - before, forward, run.flops - forward)


def language_flops(model: Any, tokens: int) -> int:
    """Forward FLOPs of the language model and its vocabulary projection, for one sequence without image."""
    width = model.config.text_config.hidden_size
    embedded = torch.empty(1, tokens, width, device="meta", dtype=model.lm_head.weight.dtype)
    mask = torch.empty(1, 1, tokens, tokens, device="meta", dtype=torch.bool)
    with torch.no_grad(), _Shapes(0) as run, whole_kernels():
        model.lm_head(model.model(inputs_embeds=embedded, attention_mask=mask, use_cache=False).last_hidden_state)
    return run.flops


def inputs(model: Any, shape: Shape, device: torch.device) -> tuple[dict[str, Tensor], Tensor | None]:
    """A micro-batch of the given shape: image tokens, then text, its last tokens with labels."""
    config = model.config
    ids = torch.ones(shape.sequences, shape.tokens, dtype=torch.long, device=device)
    labels = torch.full_like(ids, -100)
    places = torch.arange(shape.tokens, device=device).expand_as(ids)
    per_sequence = shape.supervised // shape.sequences
    if per_sequence:
        labels[:, -per_sequence:] = 1
    pixels = None
    if shape.images:
        ids[: shape.images, : config.image_seq_length] = config.image_token_id
        side = image_side(model)
        pixels = torch.zeros(shape.images, 3, side, side, device=device)
    tokens = {
        "ids": ids,
        "labels": labels,
        "positions": places.clone(),
        "segments": torch.ones_like(ids),
        "previous": (places - 1).clamp(min=0),
        "has_image": torch.arange(shape.sequences, device=device) < shape.images,
    }
    return tokens, pixels


class _Shapes(TorchDispatchMode):
    """Adds up the FLOPs of products and convolutions (2 per multiply-add), and says how many labels there are."""

    def __init__(self, supervised: int) -> None:
        super().__init__()
        self.supervised, self.flops = supervised, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.nonzero.default:
            return args[0].new_empty((self.supervised, args[0].dim()), dtype=torch.long)
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in FLOPS:
            self.flops += FLOPS[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result
