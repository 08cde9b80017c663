"""Only whole images of an allowed size decode."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from components.images.decoding import ImageError, decode, verify
from tests.raw import picture


def reason(data: bytes, max_pixels: int = 1000) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels)
    return caught.value.reason


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_image_of_each_format_becomes_rgb(format: str):
    image = decode(picture(7, format=format), 1000)
    assert (image.mode, image.size) == ("RGB", (16, 12))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP"])
def test_image_that_is_cut_off_is_corrupt(format: str):
    data = picture(7, (30, 30), format)
    assert reason(data[: len(data) // 2]) == "image_corrupt"


def test_other_bytes_are_told_apart():
    assert reason(b"") == "image_empty"
    assert reason(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n") == "image_lfs_pointer"
    assert reason(b"<html>404</html>") == "image_corrupt"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n") == "image_corrupt"


@pytest.mark.parametrize(("width", "height"), [(40, 30), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_large_image_is_refused_before_decoding(width: int, height: int):
    assert reason(png_of_size(width, height)) == "image_too_large"


def test_image_of_exactly_the_allowed_size_passes():
    assert decode(picture(1, (40, 25)), 1000).size == (40, 25)


def outcome(use: Any, data: bytes) -> tuple[str, str]:
    try:
        use(data, 5000)
        return "", ""
    except ImageError as error:
        return error.reason, error.detail


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "progressive"])
def test_coarse_decoding_finds_the_damage_that_full_decoding_finds(mode: str):
    chance = random.Random(mode)
    sink = io.BytesIO()
    noise = Image.frombytes("RGB", (64, 48), chance.randbytes(64 * 48 * 3))
    noise.convert("RGB" if mode == "progressive" else mode).save(sink, "JPEG", progressive=mode == "progressive")
    good = sink.getvalue()
    seen = set()
    for _ in range(150):
        data = bytearray(good)
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = data[: chance.choice([len(data), chance.randrange(len(data))])]
        assert outcome(verify, bytes(data)) == outcome(decode, bytes(data))
        seen.add(outcome(verify, bytes(data))[0])
    assert seen >= {"", "image_corrupt"}
