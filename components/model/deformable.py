"""Deformable attention over several levels of patch features: what both forms of VCE share.

    query --+-- offsets ---> where to look, in patches, from the patch's own centre
            +-- attention -> how much each of these points counts

Offsets start as in Deformable DETR (Zhu et al. 2020): heads look in directions spread over the circle, point k at
distance k + 1; attention starts even.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from components.errors import UserError
from components.model.bilinear import Grid

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Cue:
    """What the module saw, for heat maps.

    Attributes:
        cue: what is added to the anchor, before any norm over it (which would level it).
        locations: x then y, as shares of the image's width and height;
            values outside 0..1 lie outside the image and read zeros.
        attention: each form says what it sums to 1 over.
    """

    cue: Float[Tensor, "batch patches width"]
    locations: Float[Tensor, "batch patches heads levels points 2"]
    attention: Float[Tensor, "batch patches heads levels points"]


class DeformableCue(nn.Module):
    """Where each patch looks on each level, and with which logits; `cue` is each form's own.

    Args:
        width: features per patch, the same on every level.
        num_levels: how many levels `forward` is given.
        num_heads, num_points: sampling heads, and points per head and level.
        scale: weight of the cue in the sum.
        anchor: index into the levels of the one that is enhanced.
        start: "paper" adds a full cue from the first step; "identity" adds none until it is learnt, so that a
            projector that is already aligned sees what it knows.
        query_norm: the LayerNorm over the anchor that the queries are read from.
    """

    def __init__(
        self,
        width: int,
        num_levels: int,
        *,
        num_heads: int = 16,
        num_points: int = 4,
        scale: float = 1.0,
        anchor: int = 0,
        start: Literal["paper", "identity"] = "paper",
        query_norm: nn.LayerNorm,
    ) -> None:
        super().__init__()
        if not 0 <= anchor < num_levels:
            raise UserError(f"vce: anchor must be the index of one of the {num_levels} levels, got {anchor}")
        if start not in ("paper", "identity"):
            raise UserError(f"vce: start must be paper or identity, got {start!r}")
        self.width, self.num_levels, self.anchor, self.scale, self.start = width, num_levels, anchor, scale, start
        self.num_heads, self.num_points = num_heads, num_points
        samples = num_heads * num_levels * num_points
        self.query_norm = query_norm
        self.offsets = nn.Linear(width, samples * 2)
        self.attention = nn.Linear(width, samples)

    @torch.no_grad()
    def reset_points(self) -> None:
        """Deformable DETR's start of offsets and attention."""
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        start = directions[:, None, None] * distances[:, None]  # heads, 1, points, 2
        nn.init.zeros_(self.offsets.weight)
        self.offsets.bias.copy_(start.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention.weight)
        nn.init.zeros_(self.attention.bias)
        self.query_norm.reset_parameters()

    def inspect(self, levels: Sequence[Float[Tensor, "batch patches width"]], grid: Grid) -> Cue:
        """The cue with the points and weights it was read with.

        levels: all on a grid of (rows, columns).
        """
        self._check(levels, grid)
        anchor = levels[self.anchor]
        query = self.query_norm(anchor)
        places = (*anchor.shape[:2], self.num_heads, self.num_levels, self.num_points)
        logits = self.attention(query).view(places)
        # Places need more digits than half precision has: in bf16 they would be off by a tenth of a patch.
        offsets = self.offsets(query).view(*places, 2)
        exact = torch.promote_types(offsets.dtype, torch.float32)
        rows, columns = grid
        square = rows == columns  # a number needs no copy to the device
        size = columns if square else torch.tensor([columns, rows], dtype=exact, device=anchor.device)
        centres = patch_centres(grid, anchor.device, exact).view(1, -1, 1, 1, 1, 2)
        return self.cue(levels, grid, centres + offsets.to(exact) / size, logits)

    def cue(
        self,
        levels: Sequence[Float[Tensor, "batch patches width"]],
        grid: Grid,
        locations: Float[Tensor, "batch patches heads levels points 2"],
        logits: Float[Tensor, "batch patches heads levels points"],
    ) -> Cue:
        """What is read at the locations. logits: of the attention."""
        raise NotImplementedError

    def _check(self, levels: Sequence[Tensor], grid: Grid) -> None:
        if len(levels) != self.num_levels:
            raise UserError(f"vce: made for {self.num_levels} levels, was given {len(levels)}")
        for features in levels:
            if features.dim() != 3 or features.shape != levels[0].shape or features.shape[-1] != self.width:
                shapes = ", ".join(str(tuple(f.shape)) for f in levels)
                raise UserError(f"vce: every level must be (batch, patches, {self.width}), got {shapes}")
        if grid[0] * grid[1] != levels[0].shape[1]:
            raise UserError(
                f"vce: a grid of {grid[0]} x {grid[1]} does not hold {levels[0].shape[1]} patches "
                "(a class token must be dropped first)"
            )


def check_sizes(width: int, num_levels: int, num_heads: int, num_points: int, parts: int) -> None:
    """A UserError where a size is below 1 or the width does not divide by `parts`."""
    if min(width, num_levels, num_heads, num_points) < 1:
        raise UserError("vce: width, levels, num_heads and num_points must each be at least 1")
    if width % parts:
        how = f"levels * num_heads = {num_levels} * {num_heads}" if parts != num_heads else f"num_heads = {num_heads}"
        raise UserError(f"vce: the encoder's width {width} must divide by {how}; change vce.num_heads or vce.levels")


def patch_centres(grid: Grid, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "patches 2"]:
    """x and y of every patch's centre as shares of the image, row by row."""
    rows, columns = grid
    y = (torch.arange(rows, device=device, dtype=dtype) + 0.5) / rows
    x = (torch.arange(columns, device=device, dtype=dtype) + 0.5) / columns
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=-1)
