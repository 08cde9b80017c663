"""What stands between the vision encoder and the language model: VCE, then the projector or VLoRA's generator."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from components.errors import UserError
from components.model.bilinear import Grid
from components.model.deformable import Cue, DeformableCue
from components.model.vlora import ARGUMENT, PerceptualWeights, VisualWeights


class Connector(nn.Module):
    """Replaces LLaVA's `multi_modal_projector`: head(VCE(levels)), or the head alone.

    LLaVA hands over the chosen hidden states side by side, without a class token; VCE takes them apart again.

    Args:
        head: the projector, or VisualWeights. Its name is that of `connector.kind`: `projector` or `vlora`.
        vce: VCE in either form; None leaves it out.
        num_registers: tokens before the patches that the encoder adds for itself (DINOv2 with registers); left out.
    """

    def __init__(self, head: nn.Module, vce: DeformableCue | None, num_registers: int = 0) -> None:
        super().__init__()
        self.kind = "vlora" if isinstance(head, VisualWeights) else "projector"
        self.add_module(self.kind, head)
        self.vce = vce
        self.num_registers = num_registers

    @property
    def head(self) -> nn.Module:
        return self.get_submodule(self.kind)

    def forward(self, features: Tensor) -> Tensor:
        """(images, registers + patches, levels * width) -> (images, visual tokens, the language model's width)."""
        features = features[:, self.num_registers :]
        if self.vce is not None:
            features = self.vce(*self._levels(features))
        return self.head(features)

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


def visual_weights(model: LlavaForConditionalGeneration) -> VisualWeights | None:
    """What makes images into weights; None where a projector makes them into tokens."""
    head = getattr(model.model.multi_modal_projector, "head", None)
    return head if isinstance(head, VisualWeights) else None


def image_side(model: LlavaForConditionalGeneration) -> int:
    """Pixels per side of the images that the model is given: its encoder's own size may be another (DINOv2)."""
    weights, config = visual_weights(model), cast(Any, model.config)
    patches = weights.generator.patches if weights else config.image_seq_length
    return math.isqrt(patches) * config.vision_config.patch_size


def perceive(model: LlavaForConditionalGeneration, pixels: Tensor) -> tuple[Tensor, PerceptualWeights | None]:
    """Images (images, 3, height, width) through vision encoder and connector.

    Returns their tokens (images * tokens, hidden size), and under VLoRA (which makes no token) their weights.
    """
    image: Any = model.model.get_image_features(pixel_values=pixels)
    weights = visual_weights(model)
    return torch.cat(list(image.pooler_output)), weights.current if weights else None


def picture(model: LlavaForConditionalGeneration, pixels: Tensor, has_image: Tensor) -> dict[str, Any]:
    """The arguments by which a call of the model sees images.

    pixels: in the order of the rows that have an image. has_image: (rows,).
    """
    if visual_weights(model) is None:
        return {"pixel_values": pixels}
    weights = perceive(model, pixels)[1]
    assert weights is not None
    return {ARGUMENT: weights.of_rows(has_image)}
