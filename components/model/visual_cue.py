"""Visual Cue Enhancement, VCE, as the paper prints it (3.3): local detail from several levels, added to the anchor.

For each anchor patch q at grid position p_q, level l, head m and point k (deformable attention, one per level):

    cue_l(q) = concat_m  sum_k  A_lmk(f_q) * (V_lm x_l)(p_q + offset_lmk(f_q))
    cue      = W_agg [cue_1 ; ... ; cue_L]
    out      = f + scale * LayerNorm(cue)

    f (anchor) --LayerNorm--+-- offsets ---> where to look, in patches, from the patch's own centre
                            +-- attention -> softmax over the points of one level and head
    x_l + level embedding ----- V_l -------> bilinear samples, weighted, summed --- W_agg --- LayerNorm --- + f

The authors' released code has another module (released_cue.py, `vce.form: released`):

    cue      = W_out concat_m  sum_l sum_k  A_mlk(f_q) * (V_m LayerNorm(x_l))(p_q + offset_mlk(f_q))
    out      = f + cue          A: softmax over the points of all levels together; V is shared by the levels

What `paper` means is read from the print: "for each layer, we employ deformable attention", then the layers' features
are aggregated and the LayerNorm of the cue is added. So each level has an attention of its own and W_agg joins them.
The print gives no inner sizes; they follow from its 5.52 MB: V_l maps the width to width / levels; with a norm on the
query, one embedding per level and biases everywhere, width 1024, 4 levels, 16 heads and 4 points make 2,894,592
parameters. The release makes it likely that the printed figures were measured with its module, whose 2,892,544
parameters are 5.52 MB too: it is a form of its own and not another reading of `paper`, so that each can be measured.
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


class VisualCueEnhancement(DeformableCue):
    """Enhances one level of patch features by what the others show around each patch; see DeformableCue's arguments.

    With start "identity" the weight of the LayerNorm over the cue begins at zero.
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
        check_sizes(width, num_levels, num_heads, num_points, num_levels * num_heads)
        sizes: Any = {"num_heads": num_heads, "num_points": num_points}
        norm = nn.LayerNorm(width)
        super().__init__(width, num_levels, **sizes, scale=scale, anchor=anchor, start=start, query_norm=norm)
        self.level_embedding = nn.Parameter(torch.empty(num_levels, width))
        self.values = nn.ModuleList(nn.Linear(width, width // num_levels) for _ in range(num_levels))
        self.aggregate = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Matrices as in Deformable DETR; the level embedding's spread (0.02) is assumed."""
        self.reset_points()
        nn.init.normal_(self.level_embedding, std=0.02)
        for linear in (*self.values, self.aggregate):
            assert isinstance(linear, nn.Linear)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.norm.reset_parameters()
        if self.start == "identity":
            nn.init.zeros_(self.norm.weight)

    def forward(
        self, levels: Sequence[Float[Tensor, "batch patches width"]], grid: Grid
    ) -> Float[Tensor, "batch patches width"]:
        """Levels on a grid of (rows, columns) -> the anchor, enhanced."""
        return levels[self.anchor] + self.scale * self.norm(self.inspect(levels, grid).cue)

    def cue(
        self,
        levels: Sequence[Float[Tensor, "batch patches width"]],
        grid: Grid,
        locations: Float[Tensor, "batch patches heads levels points 2"],
        logits: Float[Tensor, "batch patches heads levels points"],
    ) -> Cue:
        """The attention sums to 1 over the points of a level and head."""
        attention = logits.softmax(dim=-1)
        parts = zip(levels, self.values, self.level_embedding, strict=True)
        values = [to_value(features + embedding) for features, to_value, embedding in parts]
        cues = sample_levels(values, grid, locations, attention)
        return Cue(self.aggregate(torch.cat(cues, dim=-1).to(logits.dtype)), locations, attention)
