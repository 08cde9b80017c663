"""Visual Cue Enhancement, VCE (paper 3.3): local detail from several encoder levels, added to the anchor level.

For each anchor patch q at grid position p_q, level l, head m and point k (deformable attention, one per level):

    cue_l(q) = concat_m  sum_k  A_lmk(f_q) * (V_lm x_l)(p_q + offset_lmk(f_q))
    cue      = W_agg [cue_1 ; ... ; cue_L]
    out      = f + scale * LayerNorm(cue)

    f (anchor) --LayerNorm--+-- offsets ---> where to look, in patches, from the patch's own centre
                            +-- attention -> softmax over the points of one level and head (assumed)
    x_l + level embedding ----- V_l -------> bilinear samples, weighted, summed --- W_agg --- LayerNorm --- + f

The size follows the published 5.52 MB (derived): V_l maps the width to width / levels; with a norm on the query, one
embedding per level and biases everywhere, width 1024, 4 levels, 16 heads and 4 points make 2,894,592 parameters.
Offsets start as in Deformable DETR (Zhu et al. 2020): heads look in directions spread over the circle, point k at
distance k + 1; attention starts even.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.errors import UserError

Grid = tuple[int, int]  # rows, columns of patches


@dataclass(frozen=True)
class Cue:
    """What the module saw, for heat maps.

    Attributes:
        cue: (batch, patches, width), after W_agg and before the LayerNorm (which would level its norms).
        locations: (batch, patches, heads, levels, points, 2), x then y, as shares of the image's width and height;
            values outside 0..1 lie outside the image and read zeros.
        attention: (batch, patches, heads, levels, points), sums to 1 over the points.
    """

    cue: Tensor
    locations: Tensor
    attention: Tensor


class VisualCueEnhancement(nn.Module):
    """Enhances one level of patch features by what the others show around each patch.

    Args:
        width: features per patch, the same on every level.
        num_levels: how many levels `forward` is given.
        num_heads, num_points: sampling heads, and points per head and level.
        scale: weight of the cue in the sum.
        anchor: index into the levels of the one that is enhanced.
        start: "paper" adds a full cue from the first step; "identity" starts with the LayerNorm's weight at zero, so
            that a projector that is already aligned sees what it knows.
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
    ) -> None:
        super().__init__()
        if min(width, num_levels, num_heads, num_points) < 1:
            raise UserError("vce: width, levels, num_heads and num_points must each be at least 1")
        if width % (num_levels * num_heads):
            raise UserError(
                f"vce: the encoder's width {width} must divide by levels * num_heads = {num_levels} * {num_heads}; "
                "change vce.num_heads or vce.levels"
            )
        if not 0 <= anchor < num_levels:
            raise UserError(f"vce: anchor must be the index of one of the {num_levels} levels, got {anchor}")
        if start not in ("paper", "identity"):
            raise UserError(f"vce: start must be paper or identity, got {start!r}")
        self.width, self.num_levels, self.anchor, self.scale, self.start = width, num_levels, anchor, scale, start
        self.num_heads, self.num_points = num_heads, num_points
        samples = num_heads * num_levels * num_points
        self.query_norm = nn.LayerNorm(width)
        self.offsets = nn.Linear(width, samples * 2)
        self.attention = nn.Linear(width, samples)
        self.level_embedding = nn.Parameter(torch.empty(num_levels, width))
        self.values = nn.ModuleList(nn.Linear(width, width // num_levels) for _ in range(num_levels))
        self.aggregate = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Deformable DETR's start; the level embedding's spread (0.02) is assumed."""
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        start = directions[:, None, None] * distances[:, None]  # heads, 1, points, 2
        nn.init.zeros_(self.offsets.weight)
        self.offsets.bias.copy_(start.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.attention.weight)
        nn.init.zeros_(self.attention.bias)
        nn.init.normal_(self.level_embedding, std=0.02)
        for linear in (*self.values, self.aggregate):
            assert isinstance(linear, nn.Linear)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.query_norm.reset_parameters()
        self.norm.reset_parameters()
        if self.start == "identity":
            nn.init.zeros_(self.norm.weight)

    def forward(self, levels: Sequence[Tensor], grid: Grid) -> Tensor:
        """Levels of (batch, patches, width) on a grid of (rows, columns) -> (batch, patches, width)."""
        return levels[self.anchor] + self.scale * self.norm(self.inspect(levels, grid).cue)

    def inspect(self, levels: Sequence[Tensor], grid: Grid) -> Cue:
        """The cue with the points and weights it was read with; the arguments are `forward`'s."""
        self._check(levels, grid)
        anchor = levels[self.anchor]
        batch, patches, _ = anchor.shape
        samples = (batch, patches, self.num_heads, self.num_levels, self.num_points)
        query = self.query_norm(anchor)
        attention = self.attention(query).view(samples).softmax(dim=-1)
        # Places need more digits than half precision has: in bf16 they would be off by a tenth of a patch.
        offsets = self.offsets(query).view(*samples, 2)
        exact = torch.promote_types(offsets.dtype, torch.float32)
        rows, columns = grid
        size = torch.tensor([columns, rows], dtype=exact, device=anchor.device)
        centres = patch_centres(grid, anchor.device, exact).view(1, patches, 1, 1, 1, 2)
        locations = centres + offsets.to(exact) / size

        cues = []
        for level, (features, to_value) in enumerate(zip(levels, self.values, strict=True)):
            value = to_value(features + self.level_embedding[level])
            cues.append(sample(value, grid, locations[:, :, :, level], attention[:, :, :, level]))
        cue = self.aggregate(torch.cat(cues, dim=-1).to(query.dtype))
        return Cue(cue, locations, attention)

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


def patch_centres(grid: Grid, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(rows * columns, 2): x and y of every patch's centre as shares of the image, row by row."""
    rows, columns = grid
    y = (torch.arange(rows, device=device, dtype=dtype) + 0.5) / rows
    x = (torch.arange(columns, device=device, dtype=dtype) + 0.5) / columns
    return torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=-1)


def sample(value: Tensor, grid: Grid, locations: Tensor, attention: Tensor) -> Tensor:
    """Read one level at the given places and sum over the points, head by head.

    Args:
        value: (batch, patches, heads * channels).
        locations: (batch, queries, heads, points, 2), x and y in 0..1.
        attention: (batch, queries, heads, points).

    Returns:
        (batch, queries, heads * channels) in the precision of the locations.
    """
    batch, queries, heads, points, _ = locations.shape
    maps = value.to(locations.dtype).transpose(1, 2).reshape(batch * heads, -1, *grid)
    places = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # grid_sample counts from -1 to 1
    read = functional.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    weights = attention.to(locations.dtype).transpose(1, 2).reshape(batch * heads, 1, queries, points)
    return (read * weights).sum(dim=-1).reshape(batch, -1, queries).transpose(1, 2)
