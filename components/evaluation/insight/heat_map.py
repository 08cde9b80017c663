"""The size of VCE's raw cue over the image (paper Figure 5): the picture as the model sees it, and under its heat map.

The cue is drawn as the attention gives it, before the LayerNorm that it passes on its way to the image's features.
After that norm all patches get nearly the same amount (a few percent apart), so that the map shows where the sampled
features are large, not where the cue changes the answer. `occlusion` measures the latter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from components.evaluation.insight.measures import cue_heat_map
from components.images.transforms import centre_square, pad_to_square, pixel_values

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

SIDE, GAP = 320, 8  # pixels
OPACITY = 0.6


def cue_strength(assistant: Assistant, picture: Image.Image) -> np.ndarray | None:
    """(rows, columns) of the raw cue's norms over the patches; None where the model has no VCE."""
    connector: Any = assistant.model.model.multi_modal_projector
    if connector.vce is None:
        return None
    seen: list[Tensor] = []
    hook = connector.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pixels = pixel_values([picture], assistant.image_processor, assistant.image)
    try:
        with torch.inference_mode():
            assistant.model.get_image_features(pixels.to(assistant.model.device, assistant.model.dtype))
            cue, grid = connector.inspect(seen[0])
    finally:
        hook.remove()
    return cue_heat_map(cue.cue, grid)[0].cpu().numpy()


def draw(picture: Image.Image, strength: np.ndarray, mode: str, padding: tuple[int, ...]) -> Image.Image:
    """Picture and overlay side by side; smallest cue dark, largest bright; patches and pixels stay squares."""
    from matplotlib import colormaps

    square = as_seen(picture, mode, padding).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    spread = float(strength.max() - strength.min())
    shade = (strength - strength.min()) / spread if spread else np.zeros_like(strength)
    colours = Image.fromarray((colormaps["inferno"](shade)[..., :3] * 255).astype(np.uint8))
    heat = colours.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    both = Image.new("RGB", (2 * SIDE + GAP, SIDE), "white")
    both.paste(square, (0, 0))
    both.paste(Image.blend(square, heat, OPACITY), (SIDE + GAP, 0))
    return both


def mean_colour(assistant: Assistant) -> tuple[int, ...]:
    """The image processor's mean as a colour, with which pictures are padded."""
    return tuple(int(channel * 255) for channel in assistant.image_processor.image_mean)


def as_seen(picture: Image.Image, mode: str, padding: tuple[int, ...]) -> Image.Image:
    """The square that the image processor takes: padded, or cut out of the middle."""
    return pad_to_square(picture, padding) if mode == "pad" else centre_square(picture)
