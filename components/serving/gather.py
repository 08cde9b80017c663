"""Rows that the model has read, taken from several batches into one: what lets answers begin and end at any time.

batch 1   . . s i q a a          keep rows, cut columns that are padding in all of them,
batch 2       s i q              pad on the left to one length, one copy
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from components.evaluation.inference.cache import Prefilled, RoomyLayer, roomy_cache, with_room
from components.model.vlora import ARGUMENT, PerceptualWeights

Taken = tuple[Prefilled, Sequence[int]]  # a batch, and which of its rows


def can_gather(config: Any) -> bool:
    """Whether every layer keeps all that was read; sliding windows do not."""
    return all(type(layer) is RoomyLayer for layer in roomy_cache(config).layers)


def gather(taken: Sequence[Taken], config: Any) -> Prefilled:
    """The chosen rows, batch after batch, as one batch of its own; what they are taken from stays as it is."""
    chosen = [torch.tensor(rows, device=read.mask.device) for read, rows in taken]
    masks = [read.mask[rows] for (read, _), rows in zip(taken, chosen, strict=True)]
    starts = [int(mask.any(dim=0).int().argmax()) for mask in masks]  # columns before it are padding in all rows
    length = max(mask.shape[1] - start for mask, start in zip(masks, starts, strict=True))
    cache = roomy_cache(config)
    for number, layer in enumerate(cache.layers):
        assert isinstance(layer, RoomyLayer)
        sources = [read.cache.layers[number] for read, _ in taken]
        for name in ("keys", "values"):
            whole = _joined([getattr(source, name) for source in sources], chosen, starts, length)
            if name == "keys":
                layer.lazy_initialization(whole, whole)
            setattr(layer, f"whole_{name}", whole)
            setattr(layer, name, whole[:, :, :length])
    weights = join_weights([read.weights for read, _ in taken], chosen)
    setattr(cache, ARGUMENT, weights)  # under VLoRA a cache says what its rows see
    mask = torch.cat(
        [functional.pad(mask[:, s:], (length - mask.shape[1] + s, 0)) for mask, s in zip(masks, starts, strict=True)]
    )
    logits = torch.cat([read.logits[rows] for (read, _), rows in zip(taken, chosen, strict=True)])
    return Prefilled(cache, mask, logits, weights)


def _joined(tensors: Sequence[Tensor], chosen: Sequence[Tensor], starts: Sequence[int], length: int) -> Tensor:
    """(rows, heads, length + room, width). Padding is zero: old memory may hold NaN, which no mask hides."""
    first = tensors[0]
    rows = sum(map(len, chosen))
    whole = first.new_zeros(rows, first.shape[1], with_room(length), first.shape[3])
    row = 0
    for tensor, which, start in zip(tensors, chosen, starts, strict=True):
        size = tensor.shape[2] - start
        whole[row : row + len(which), :, length - size : length] = tensor[which, :, start:]
        row += len(which)
    return whole


def join_weights(parts: Sequence[PerceptualWeights | None], chosen: Sequence[Tensor]) -> PerceptualWeights | None:
    """What the chosen rows see under VLoRA, without the images that none of them sees any more."""
    if all(part is None for part in parts):
        return None
    made: list[dict[str, Tensor]] = []
    image_of_row: list[Tensor] = []
    before = 0
    for part, rows in zip(parts, chosen, strict=True):
        if part is None:
            image_of_row.append(torch.full_like(rows, -1))
            continue
        own = part.image_of_row[rows]
        used, place = own.clamp(min=0).unique(return_inverse=True)
        made.append({name: tensor[used] for name, tensor in part.made.items()})
        image_of_row.append(torch.where(own < 0, -1, place + before))
        before += len(used)
    whole = {name: torch.cat([each[name] for each in made]) for name in made[0]}
    return PerceptualWeights(whole, torch.cat(image_of_row))


def num_bytes(read: Prefilled) -> int:
    """Memory of what was read."""
    layers: Any = read.cache.layers
    held = [tensor for layer in layers for tensor in (layer.whole_keys, layer.whole_values)]
    held += list(read.weights.made.values()) if read.weights else []
    return sum(tensor.numel() * tensor.element_size() for tensor in held if tensor is not None)
