"""What stands between the vision encoder and the language model: VCE and the projector, in one place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from components.model.visual_cue import VisualCueEnhancement


class EnhancedProjector(nn.Module):
    """Replaces LLaVA's `multi_modal_projector`: projector(VCE(levels)), or the projector alone.

    LLaVA hands over the chosen hidden states side by side; VCE takes them apart again.
    """

    def __init__(self, projector: nn.Module, vce: VisualCueEnhancement | None) -> None:
        super().__init__()
        self.projector = projector
        self.vce = vce

    def forward(self, features: Tensor) -> Tensor:
        """(images, patches, levels * width) -> (images, patches, hidden size of the language model)."""
        return self.projector(self.enhance(features))

    def enhance(self, features: Tensor) -> Tensor:
        if self.vce is None:
            return features
        return self.vce(self.levels(features), grid_of(features.shape[1]))

    def levels(self, features: Tensor) -> tuple[Tensor, ...]:
        assert self.vce is not None
        return torch.chunk(features, self.vce.num_levels, dim=-1)


def grid_of(patches: int) -> tuple[int, int]:
    """Rows and columns of a square image's patches."""
    side = math.isqrt(patches)
    assert side * side == patches, f"{patches} patches are no square grid"
    return side, side
