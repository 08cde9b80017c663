"""Bilinear readings of a map of patches at free places, weighted and summed: the inside of deformable attention.

Two ways, equal to 1e-6:

    by_grid_sample   torch's operator: three times as fast on a CPU. On CUDA the gradient of the map is added up with
                     atomics, in no fixed order, so that two runs part in the last digits.
    by_gathers       the four patches around each place by index: their gradient is added up in sorted order.

`sample` takes the first on CPUs and the second on GPUs, where the same bits after a kill are worth more than the
fraction of a millisecond.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Grid = tuple[int, int]  # rows, columns of patches


def sample(value: Tensor, grid: Grid, locations: Tensor, attention: Tensor) -> Tensor:
    """Read one level at the given places and sum over the points, head by head.

    Args:
        value: (batch, patches, heads * channels).
        locations: (batch, queries, heads, points, 2), x and y in 0..1; outside the map there are zeros.
        attention: (batch, queries, heads, points).

    Returns:
        (batch, queries, heads * channels) in the precision of the locations.
    """
    read = by_gathers if value.is_cuda else by_grid_sample
    return read(value.to(locations.dtype), grid, locations, attention.to(locations.dtype))


def by_grid_sample(value: Tensor, grid: Grid, locations: Tensor, attention: Tensor) -> Tensor:
    """See `sample`; all in one precision."""
    batch, queries, heads, points, _ = locations.shape
    maps = value.transpose(1, 2).reshape(batch * heads, -1, *grid)
    places = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # grid_sample counts from -1 to 1
    read = functional.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    weights = attention.transpose(1, 2).reshape(batch * heads, 1, queries, points)
    return (read * weights).sum(dim=-1).reshape(batch, -1, queries).transpose(1, 2)


def by_gathers(value: Tensor, grid: Grid, locations: Tensor, attention: Tensor) -> Tensor:
    """See `sample`; all in one precision."""
    batch, queries, heads, _, _ = locations.shape
    rows, columns = grid
    table = value.unflatten(-1, (heads, -1)).flatten(0, 2)  # (batch * patches * heads, channels)
    place = locations * locations.new_tensor([columns, rows]) - 0.5  # in patches, from the first one's centre
    corner = place.floor()
    share = place - corner
    images = torch.arange(batch, device=value.device).view(-1, 1, 1, 1) * (rows * columns)
    head = torch.arange(heads, device=value.device).view(1, 1, -1, 1)
    total = value.new_zeros(batch, queries, heads, table.shape[-1])
    for right in (0, 1):
        for below in (0, 1):
            x, y = corner[..., 0] + right, corner[..., 1] + below
            inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            near = (share[..., 0] if right else 1 - share[..., 0]) * (share[..., 1] if below else 1 - share[..., 1])
            index = y.clamp(0, rows - 1).long() * columns + x.clamp(0, columns - 1).long()
            read = table[(images + index) * heads + head]  # (batch, queries, heads, points, channels)
            total = total + (read * (near * inside * attention).unsqueeze(-1)).sum(dim=-2)
    return total.flatten(-2)
