"""Only whole images of an allowed size decode."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from components.images.decoding import ImageError, decode, num_scans, verify
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


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
def test_image_of_each_format_becomes_rgb(format: str):
    image = decode(picture(7, format=format), 1000)
    assert (image.mode, image.size) == ("RGB", (16, 12))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP"])
def test_image_that_is_cut_off_is_corrupt(format: str):
    data = picture(7, (30, 30), format)
    assert reason(data[: len(data) // 2]) == "image_corrupt"


def refusal(data: bytes) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        decode(data, 1000)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<!DOCTYPE html><html><title>404</title></html>", "HTML"),
        (b"\xef\xbb\xbf\n <HTML>404", "HTML"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS or PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (picture(1, format="ICO"), "ICO"),
        (b"\0\0\0\x18ftypheic" + bytes(60), "HEIC"),
        (b"\0\0\0\x18ftypmif1" + bytes(60), "HEIF"),
        (b"\0\0\0\x20ftypisom" + bytes(60), "MP4 or QuickTime video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n1234", "PAM"),
        (b"PF\n1 1\n-1.0\n" + bytes(12), "PFM in colour"),
        (b"Rar!\x1a\7\1\0" + bytes(50), "RAR"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "7z"),
        (b"PK\3\4" + bytes(50), "zip"),
        (gzip.compress(picture(1)), "gzip"),
        (b"\x93NUMPY\1\0", "NumPy"),
    ],
)
def test_file_of_another_kind_is_named(data: bytes, kind: str):
    found, detail = refusal(data)
    assert found == "image_other_kind"
    assert detail.startswith(f"is {kind}; JPEG, PNG, WebP")


def test_other_bytes_are_reported_apart():
    assert reason(b"") == "image_empty"
    assert reason(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n") == "image_lfs_pointer"
    assert refusal(b"junk")[0] == "image_corrupt"
    assert refusal(b"GIF8junk") == ("image_corrupt", "begins as GIF, but its header is damaged")


def with_scans(number: int, size: tuple[int, int] = (16, 8)) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `number`."""
    sink = io.BytesIO()
    Image.new("L", size, 128).save(sink, "JPEG", progressive=True)
    data = sink.getvalue()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * (number - num_scans(data)) + data[end:]


def test_scans_of_a_jpeg_are_counted_and_those_of_its_thumbnail_are_not():
    thumbnail, sink = with_scans(40), io.BytesIO()
    Image.new("RGB", (16, 8)).save(sink, "JPEG", progressive=True, exif=b"Exif\0\0" + thumbnail)
    assert num_scans(sink.getvalue()) == 10  # the script of libjpeg for colour
    assert num_scans(sink.getvalue() + thumbnail) == 10  # a second picture behind it
    assert num_scans(with_scans(77)) == 77


def test_jpeg_with_more_scans_than_its_size_may_cost_is_refused():
    assert decode(with_scans(100), 1000).size == (16, 8)
    assert refusal(with_scans(501)) == ("image_too_costly", "501 scans of 128 pixels")
    with pytest.raises(ImageError, match="image_too_costly: 100 scans of 12000000 pixels"):
        verify(with_scans(100, (4000, 3000)), 50_000_000)


def test_side_beyond_any_picture_is_refused():
    assert reason(png_of_size(1, 2**17 + 1), 2**20) == "image_too_costly"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "GIF"])
def test_reasons_of_damage_are_the_same_twice(format: str):
    data = picture(7, (30, 30), format)
    for cut in range(1, len(data), 7):
        one, two = (outcome(decode, data[:cut]) for _ in range(2))
        assert one == two
        assert "0x" not in one[1]


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
