"""Bilinear readings of a map of patches at free places, weighted and summed: the inside of deformable attention.

Two ways, equal to 1e-6:

    by_grid_sample   torch's operator: three times as fast on a CPU. On CUDA the gradient of the map is added up with
                     atomics, in no fixed order, so that two runs part in the last digits.
    by_gathers       the four patches around each place by index: their gradient is added up in sorted order.

`sample` takes the first on CPUs and where there is no gradient, and the second in training on GPUs, where the same bits
after a kill are worth more than what it costs: at 8 images 5.3 ms forward on an H200.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float

Grid = tuple[int, int]  # rows, columns of patches


def sample(
    value: Float[Tensor, "batch patches width"],
    grid: Grid,
    locations: Float[Tensor, "batch queries heads points 2"],
    attention: Float[Tensor, "batch queries heads points"],
) -> Float[Tensor, "batch queries width"]:
    """Read one level at the given places and sum over the points, head by head.

    Args:
        value: its width is heads * channels.
        locations: x and y in 0..1; outside the map there are zeros.
        attention: weight of each point.

    Returns:
        Values in the precision of the locations.
    """
    read = by_gathers if _needs_order(value) else by_grid_sample
    return read(value.to(locations.dtype), grid, locations, attention.to(locations.dtype))


def _needs_order(value: Tensor) -> bool:
    """Whether a gradient will be added up, on a device whose operator for it has no fixed order."""
    return value.is_cuda and torch.is_grad_enabled()


def by_grid_sample(
    value: Float[Tensor, "batch patches width"],
    grid: Grid,
    locations: Float[Tensor, "batch queries heads points 2"],
    attention: Float[Tensor, "batch queries heads points"],
) -> Float[Tensor, "batch queries width"]:
    """See `sample`; all in one precision."""
    batch, queries, heads, points, _ = locations.shape
    maps = value.transpose(1, 2).reshape(batch * heads, -1, *grid)
    places = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # grid_sample counts from -1 to 1
    read = functional.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    weights = attention.transpose(1, 2).reshape(batch * heads, 1, queries, points)
    return (read * weights).sum(dim=-1).reshape(batch, -1, queries).transpose(1, 2)


def by_gathers(
    value: Float[Tensor, "batch patches width"],
    grid: Grid,
    locations: Float[Tensor, "batch queries heads points 2"],
    attention: Float[Tensor, "batch queries heads points"],
) -> Float[Tensor, "batch queries width"]:
    """See `sample`; all in one precision. The four corners are one dimension more, so that a GPU launches little."""
    batch, _, heads, _, _ = locations.shape
    rows, columns = grid
    size = columns if rows == columns else locations.new_tensor([columns, rows])
    table = value.unflatten(-1, (heads, -1)).flatten(0, 2)  # (batch * patches * heads, channels)
    place = locations * size - 0.5  # in patches, from the first one's centre
    first = place.floor()
    share = place - first
    corners = torch.stack([first, first + 1])  # (2, batch, queries, heads, points, 2): before and behind, in x and y
    inside = (corners >= 0) & (corners < size)
    near = torch.stack([1 - share, share]) * inside
    x, y = (corners * inside).long().unbind(-1)
    index = y.unsqueeze(1) * columns + x  # (2, 2, batch, queries, heads, points)
    images = torch.arange(batch, device=value.device).view(-1, 1, 1, 1) * (rows * columns)
    head = torch.arange(heads, device=value.device).view(1, 1, -1, 1)
    weight = near[..., 1].unsqueeze(1) * near[..., 0] * attention
    read = table[((images + index) * heads + head).flatten(0, 1).movedim(0, -1)]  # (.., points, corners, channels)
    weights = weight.flatten(0, 1).movedim(0, -1).flatten(-2).unsqueeze(-2)  # (.., heads, 1, points * corners)
    return (weights @ read.flatten(-3, -2)).flatten(-3)


def sample_levels(
    values: Sequence[Float[Tensor, "batch patches width"]],
    grid: Grid,
    locations: Float[Tensor, "batch queries heads levels points 2"],
    attention: Float[Tensor, "batch queries heads levels points"],
) -> list[Float[Tensor, "batch queries width"]]:
    """`sample` for each level: in training on GPUs in one go, elsewhere one after the other."""
    if _needs_order(values[0]):
        return together(values, grid, locations, attention)
    pairs = zip(values, locations.unbind(3), attention.unbind(3), strict=True)
    return [sample(value, grid, places, weights) for value, places, weights in pairs]


def together(
    values: Sequence[Float[Tensor, "batch patches width"]],
    grid: Grid,
    locations: Float[Tensor, "batch queries heads levels points 2"],
    attention: Float[Tensor, "batch queries heads levels points"],
) -> list[Float[Tensor, "batch queries width"]]:
    """See `sample_levels`: levels as more images."""
    whole = torch.cat(list(values)).to(locations.dtype)
    places, weights = (each.movedim(3, 0).flatten(0, 1) for each in (locations, attention.to(locations.dtype)))
    return list(by_gathers(whole, grid, places, weights).chunk(len(values)))
