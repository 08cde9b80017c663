"""Images to pixel values: usual pictures as the processor alone makes them, others at a bounded cost."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from components.images.transforms import ImageMode, pad_to_square, pixel_values

COLOUR = (122, 116, 104)  # int(mean * 255) of CLIP


def clip() -> Any:
    return CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (33, 33), (1, 1), (400, 100), (100, 400), (640, 40)])
def test_usual_pictures_are_what_the_processor_alone_makes_of_them(size: tuple[int, int]):
    image = noise(*size)
    side = max(size)
    square = Image.new("RGB", (side, side), COLOUR)
    square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    cases: list[tuple[ImageMode, Image.Image]] = [("crop", image), ("pad", square)]
    for mode, plain in cases:
        expected = clip()(images=[plain], return_tensors="pt")["pixel_values"]
        assert torch.equal(pixel_values([image], clip(), mode), expected)


@pytest.mark.parametrize("mode", ["crop", "pad"])
@pytest.mark.parametrize("size", [(728, 1), (1, 20_000), (100_000, 1), (1, 131_072), (30_000, 60)])
def test_strip_costs_no_more_than_a_picture(mode: ImageMode, size: tuple[int, int]):
    image = Image.new("RGB", size, (200, 100, 50))
    tracemalloc.start()
    try:
        pixels = pixel_values([image], clip(), mode)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000  # NumPy's part of it
    finally:
        tracemalloc.stop()
    assert pixels.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("size", [(20_000, 600), (11_000, 9_000)])
def test_costly_square_is_reduced_before_it_is_padded(size: tuple[int, int]):
    square = pad_to_square(Image.new("RGB", size, (200, 100, 50)), COLOUR)
    assert square.size == (1024, 1024)
    assert square.getpixel((512, 512)) == (200, 100, 50)
    assert square.getpixel((512, 2)) == COLOUR
    height = round(1024 * size[1] / size[0])
    assert (np.asarray(square)[:, 512] == (200, 100, 50)).all(axis=1).sum() == height


def test_large_photo_is_padded_at_its_size():
    assert pad_to_square(Image.new("RGB", (6000, 4000)), COLOUR).size == (6000, 6000)
    assert pad_to_square(Image.new("RGB", (4096, 10)), COLOUR).size == (4096, 4096)


def test_middle_of_a_strip_is_what_crop_shows():
    strip = Image.new("RGB", (3000, 10), (255, 255, 255))
    strip.paste((200, 0, 0), (1495, 0, 1505, 10))
    expected = clip()(images=[strip.crop((1420, 0, 1580, 10))], return_tensors="pt")["pixel_values"]
    assert torch.equal(pixel_values([strip], clip(), "crop"), expected)
