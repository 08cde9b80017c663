"""Images to pixel values: stage 1 crops, stage 2 pads to a square (paper, appendix B)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

ImageMode = Literal["crop", "pad"]


def pixel_values(images: Sequence[Image.Image], image_processor: Any, mode: ImageMode) -> Tensor:
    """Preprocess RGB images to (len(images), 3, height, width).

    crop: the square in the middle. pad: first fill to a square with the processor's mean colour,
    (122, 116, 104) for CLIP, so that nothing is cut off.
    """
    if mode == "pad":
        mean = tuple(int(channel * 255) for channel in image_processor.image_mean)
        images = [pad_to_square(image, mean) for image in images]
    elif not getattr(image_processor, "do_center_crop", None):  # SigLIP's would press the image into a square
        images = [centre_square(image) for image in images]
    return image_processor(images=list(images), return_tensors="pt")["pixel_values"].to(torch.float32)


def pad_to_square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def centre_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))
