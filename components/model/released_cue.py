"""Visual Cue Enhancement as the authors released it (github.com/pengkun-jiao/FHTC, commit a4d92c4).

One multi-scale deformable attention over all levels, as in Deformable DETR:

    cue(q) = W_out concat_m  sum_l sum_k  A_mlk(f_q) * (V_m LayerNorm(x_l))(p_q + offset_mlk(f_q))
    out    = f + scale * cue

    f (anchor) --LayerNorm--+-- offsets ---> where to look, in patches, from the patch's own centre
                            +-- attention -> softmax over the points of all levels of a head
    x_l -- LayerNorm -- V (shared) --------> bilinear samples, weighted, summed over levels and points --- W_out --- + f

The paper's form (visual_cue.py) has an attention and a V for each level, W_agg over the levels, an embedding of the
levels, and a LayerNorm on the cue. Here both LayerNorms have eps 1e-6, there is no embedding, and the scale is 1 (the
released code has none). Its list of levels ends with the one that it enhances: -20 of [-2, -8, -14, -20].

The released module holds a third LayerNorm, computes it and drops its result. It has no part in this one: its 2,048
parameters are kept, frozen, where a file of the authors is read (`keep_unused_norm`), and nowhere else. With it the
published sizes make 2,892,544 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from components.model.bilinear import Grid, sample_levels
from components.model.deformable import Cue, DeformableCue, check_sizes

if TYPE_CHECKING:
    from jaxtyping import Float

EPS = 1e-6
UNUSED_NORM = "vce.unused_norm."  # of the authors' files, within a connector


class ReleasedVisualCueEnhancement(DeformableCue):
    """Enhances one level of patch features by what all show around each patch; see DeformableCue's arguments.

    With start "identity" the output projection begins at zero.
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
        check_sizes(width, num_levels, num_heads, num_points, num_heads)
        sizes: Any = {"num_heads": num_heads, "num_points": num_points}
        norm = nn.LayerNorm(width, eps=EPS)
        super().__init__(width, num_levels, **sizes, scale=scale, anchor=anchor, start=start, query_norm=norm)
        self.feature_norm = nn.LayerNorm(width, eps=EPS)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Deformable DETR's start: matrices Xavier, biases zero, offsets spread, attention even."""
        self.reset_points()
        self.feature_norm.reset_parameters()
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        if self.start == "identity":
            nn.init.zeros_(self.output.weight)

    def keep_unused_norm(self) -> None:
        """Give a place to the LayerNorm of the authors' files that nothing reads; it is never trained."""
        self.unused_norm = nn.LayerNorm(self.width, eps=EPS).to(self.output.weight).requires_grad_(False)

    def forward(
        self, levels: Sequence[Float[Tensor, "batch patches width"]], grid: Grid
    ) -> Float[Tensor, "batch patches width"]:
        """Levels on a grid of (rows, columns) -> the anchor, enhanced."""
        return levels[self.anchor] + self.scale * self.inspect(levels, grid).cue

    def cue(
        self,
        levels: Sequence[Float[Tensor, "batch patches width"]],
        grid: Grid,
        locations: Float[Tensor, "batch patches heads levels points 2"],
        logits: Float[Tensor, "batch patches heads levels points"],
    ) -> Cue:
        """The attention sums to 1 over the points of all levels of a head."""
        attention = logits.flatten(-2).softmax(dim=-1).view_as(logits)
        values = [self.value(self.feature_norm(features)) for features in levels]
        read = torch.stack(sample_levels(values, grid, locations, attention)).sum(dim=0)
        return Cue(self.output(read.to(logits.dtype)), locations, attention)
