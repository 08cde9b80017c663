"""Images to pixel values: stage 1 crops, stage 2 pads to a square (paper, appendix B).

What one image costs is bounded here for training, evaluation and serving alike, since a file of a hundred bytes can
promise 1 x 20,000 pixels. Usual pictures keep their pixels to the bit; the bounds change those beyond them:

    pad    a square of more than 2^24 pixels that is more than four times the picture, or of more than 10^8:
           the picture is reduced to SIDE first, then padded
    crop   a picture more than 16 times as long as wide: cut to 16 times around its middle, before it is resized
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

ImageMode = Literal["crop", "pad"]
SIDE = 1024  # pixels; more than any vision encoder here takes in
_ALWAYS_PADDED, _NEVER_PADDED = 2**24, 10**8  # pixels of the square
_MOST_PADDING = 4  # how many times the picture its square may be
_LONGEST = 16  # times as long as wide


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
    else:  # it resizes before it crops: a strip would become a huge picture in between
        images = [_centre_strip(image) for image in images]
    return image_processor(images=list(images), return_tensors="pt")["pixel_values"].to(torch.float32)


def pad_to_square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    image = _reduced_where_costly(image)
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _reduced_where_costly(image: Image.Image) -> Image.Image:
    square, own = max(image.size) ** 2, image.width * image.height
    if square <= min(max(_ALWAYS_PADDED, _MOST_PADDING * own), _NEVER_PADDED) or square == own:
        return image
    scale = SIDE / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)  # a gap: the filter stays short


def centre_square(image: Image.Image) -> Image.Image:
    side = min(image.size)
    return _centre(image, side, side)


def _centre_strip(image: Image.Image) -> Image.Image:
    longest = _LONGEST * min(image.size)
    if max(image.size) <= longest:
        return image
    return _centre(image, min(image.width, longest), min(image.height, longest))


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
