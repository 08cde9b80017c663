"""What stands between the vision encoder and the language model: VCE and the projector, in one place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from components.errors import UserError
from components.model.visual_cue import Cue, Grid, VisualCueEnhancement


class EnhancedProjector(nn.Module):
    """Replaces LLaVA's `multi_modal_projector`: projector(VCE(levels)), or the projector alone.

    LLaVA hands over the chosen hidden states side by side, without a class token; VCE takes them apart again.

    Args:
        num_registers: tokens before the patches that the encoder adds for itself (DINOv2 with registers); left out.
    """

    def __init__(self, projector: nn.Module, vce: VisualCueEnhancement | None, num_registers: int = 0) -> None:
        super().__init__()
        self.projector = projector
        self.vce = vce
        self.num_registers = num_registers

    def forward(self, features: Tensor) -> Tensor:
        """(images, registers + patches, levels * width) -> (images, patches, hidden size of the language model)."""
        features = features[:, self.num_registers :]
        if self.vce is not None:
            features = self.vce(*self._levels(features))
        return self.projector(features)

    def inspect(self, features: Tensor) -> tuple[Cue, Grid]:
        """What VCE reads from the same features as `forward`'s, and the grid of their patches."""
        assert self.vce is not None
        levels, grid = self._levels(features[:, self.num_registers :])
        return self.vce.inspect(levels, grid), grid

    def _levels(self, features: Tensor) -> tuple[tuple[Tensor, ...], Grid]:
        assert self.vce is not None
        return torch.chunk(features, self.vce.num_levels, dim=-1), grid_of(features.shape[1])


def grid_of(patches: int) -> Grid:
    """Rows and columns of a square image's patches."""
    side = math.isqrt(patches)
    if side * side != patches:
        raise UserError(f"vce: {patches} features of an image are no square grid of patches; use another encoder")
    return side, side
