"""Every mode and every turn to the 8-bit RGB that an image viewer shows; the expected values are worked out by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from components.images.decoding import ImageError, decode, verify

WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)


def saved(image: Image.Image, format: str, **settings: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format, **settings)
    return sink.getvalue()


def shown(data: bytes) -> list[tuple[int, ...]]:
    """Pixels row by row; decoding and checking agree."""
    verify(data, 1000)
    image = decode(data, 1000)
    assert image.mode == "RGB"
    return [tuple(int(value) for value in pixel) for pixel in np.asarray(image).reshape(-1, 3)]


def png(colour_type: int, bits: int, row: bytes, clear: bytes | None = None, width: int = 2) -> bytes:
    """A PNG of one row; `clear` is its tRNS chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, colour_type, 0, 0, 0))
    mark = chunk(b"tRNS", clear) if clear is not None else b""
    return b"\x89PNG\r\n\x1a\n" + header + mark + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


def grey(*values: int) -> list[tuple[int, ...]]:
    return [(value,) * 3 for value in values]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_16_bit_grey_is_scaled_to_8(format: str):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    settings = {"irreversible": False} if format == "JPEG2000" else {}
    assert shown(saved(Image.fromarray(values), format, **settings)) == grey(0, 0, 1, 1, 128, 255)


def test_16_bit_ramp_keeps_its_mean():
    ramp = np.linspace(0, 65535, 960).astype(np.uint16).reshape(24, 40)
    assert np.asarray(decode(saved(Image.fromarray(ramp), "PNG"), 1000)).mean() == pytest.approx(127.5, abs=0.1)


def test_16_bit_tiff_in_which_zero_is_white_is_inverted():
    values = np.array([[0, 65535]], np.uint16)
    assert shown(saved(Image.fromarray(values), "TIFF", tiffinfo={262: 0})) == grey(255, 0)


def tiff(photometric: int, bits: tuple[int, ...], numbers: int, row: bytes, **others: int) -> bytes:
    """A TIFF of one row of two pixels. `numbers`: 1 whole, 2 signed, 3 floating; `extra`: of a last sample."""
    tags = {256: (2,), 257: (1,), 258: bits, 259: (others.get("packed", 1),), 262: (photometric,), 273: (0,)}
    tags |= {277: (len(bits),), 278: (1,), 279: (len(row),), 339: (numbers,) * len(bits)}
    if "extra" in others:
        tags[338] = (others["extra"],)
    entries, behind = b"", b""
    start = 8 + 2 + 12 * len(tags) + 4
    size = sum(2 * len(values) for values in tags.values() if len(values) > 2)
    for tag, values in sorted({**tags, 273: (start + size,)}.items()):
        packed = struct.pack(f"<{len(values)}H", *values)
        if len(packed) > 4:
            packed, behind = struct.pack("<I", start + len(behind)), behind + packed
        entries += struct.pack("<HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + behind + row


TIFFS = {  # what the tags state is what is shown
    "12 bits": (tiff(1, (12,), 1, bytes([0xFF, 0xF0, 0x00])), grey(255, 0)),
    "12 bits, the middle": (tiff(1, (12,), 1, bytes([0x80, 0x00, 0x08])), grey(128, 0)),
    "12 bits, deflated": (tiff(1, (12,), 1, zlib.compress(bytes([0xFF, 0xF0, 0x00])), packed=8), grey(255, 0)),
    "16 bits": (tiff(1, (16,), 1, struct.pack("<2H", 0, 65535)), grey(0, 255)),
    "uint32": (tiff(1, (32,), 1, struct.pack("<2I", 0, 2**32 - 1)), grey(0, 255)),
    "uint32 of 8-bit values": (tiff(1, (32,), 1, struct.pack("<2I", 7, 200)), grey(7, 200)),
    "int32": (tiff(1, (32,), 2, struct.pack("<2i", -5, 5)), grey(0, 255)),
    "int16": (tiff(1, (16,), 2, struct.pack("<2h", -100, 100)), grey(0, 255)),
    "int8": (tiff(1, (8,), 2, struct.pack("<2b", -100, 100)), grey(0, 255)),
    "int8, none below zero": (tiff(1, (8,), 2, bytes([7, 100])), grey(7, 100)),
    "floating": (tiff(1, (32,), 3, struct.pack("<2f", 0, 1)), grey(0, 255)),
    "floating, zero is white": (tiff(0, (32,), 3, struct.pack("<2f", 0, 1)), grey(255, 0)),
    "no number, zero is white": (tiff(0, (32,), 3, struct.pack("<2f", float("nan"), 0.5)), grey(0, 127)),
    "8 bits, zero is white": (tiff(0, (8,), 1, bytes([0, 255])), grey(255, 0)),
    "grey and alpha": (tiff(1, (8, 8), 1, bytes([0, 0, 9, 255]), extra=2), [WHITE, (9, 9, 9)]),
    "grey times alpha": (tiff(1, (8, 8), 1, bytes([0, 0, 64, 128]), extra=1), grey(255, 191)),
    "RGB times alpha": (tiff(2, (8,) * 4, 1, bytes([128, 0, 0, 128, 0, 0, 0, 0]), extra=1), [(255, 127, 127), WHITE]),
}


@pytest.mark.parametrize("name", sorted(TIFFS))
def test_tiff_is_what_its_tags_state(name: str):
    data, expected = TIFFS[name]
    assert shown(data) == expected


@pytest.mark.parametrize(
    ("data", "layout"),
    [
        (tiff(1, (64,), 3, struct.pack("<2d", 0, 1)), "grey, 1 x 64 bits, floating numbers"),
        (tiff(2, (32,) * 3, 3, struct.pack("<6f", *range(6))), "RGB, 3 x 32 bits, floating numbers"),
        (tiff(1, (16, 16), 1, bytes(8), extra=2), "grey, 2 x 16 bits, whole numbers"),
        (tiff(5, (8,) * 5, 1, bytes(10), extra=2), "CMYK, 5 x 8 bits, whole numbers"),
        (tiff(1, (8,), 1, bytes(2), packed=50_000), None),  # zstd, which is read
        (tiff(1, (8,), 1, bytes(2), packed=34_712), "grey, 1 x 8 bits, whole numbers, compression 34712"),
        (b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 0), None),  # a BigTIFF without tags
        (tiff(1, (64,), 3, bytes(16))[:60], None),  # tags cut off
        (tiff(1, (64,), 3, bytes(16))[:-16], None),  # no pixels
        (tiff(1, (0,), 1, bytes(2)), None),
    ],
)
def test_tiff_of_a_layout_that_is_not_read_is_told_from_a_damaged_one(data: bytes, layout: str | None):
    with pytest.raises(ImageError) as caught:
        decode(data, 1000)
    if layout:
        words = f"a TIFF of a layout that is not read ({layout}); save it as 8-bit RGB"
        assert (caught.value.reason, caught.value.detail) == ("image_other_kind", words)
    else:
        assert caught.value.reason == "image_corrupt"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),  # fractions
        ([0.0, 7.4, 255.0], [0, 7, 255]),  # 8-bit values
        ([-100.0, 0.0, 100.0], [0, 128, 255]),  # stretched
        ([1000.0, 1000.0, 1000.0], [0, 0, 0]),
        ([float("nan"), 1.0, float("inf")], [0, 255, 255]),
    ],
)
def test_floating_grey_is_scaled(values: list[float], expected: list[int]):
    assert shown(saved(Image.fromarray(np.array([values], np.float32)), "TIFF")) == grey(*expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1, 200], [0, 1, 200]), ([0, 50_000, 100_000], [0, 128, 255]), ([-10, 0, 10], [0, 128, 255])],
)
def test_32_bit_whole_grey_is_scaled(values: list[int], expected: list[int]):
    assert shown(saved(Image.fromarray(np.array([values], np.int32)), "TIFF")) == grey(*expected)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ((0x1234, 0x5678, 0x9ABC), (255, 255, 255)),  # the colour that is marked
        ((0x1333, 0x5678, 0x9ABC), (0x13, 0x56, 0x9A)),
        ((0x12FF, 0x56FF, 0x9AFF), (255, 255, 255)),  # the same high bytes: taken for it
    ],
)
def test_transparent_colour_of_a_16_bit_rgb_png_is_matched_by_its_high_bytes(first: tuple, expected: tuple):
    row = struct.pack(">6H", *first, 0xFFFF, 0, 0)
    assert shown(png(2, 16, row, clear=struct.pack(">3H", 0x1234, 0x5678, 0x9ABC))) == [expected, (255, 0, 0)]


def palette_with_alpha() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putdata([0, 1])
    return image


TRANSPARENT = {  # a transparent black pixel beside an opaque or half opaque one: what is seen on white
    "RGBA": (saved(Image.frombytes("RGBA", (2, 1), bytes([0, 0, 0, 0, 255, 0, 0, 255])), "PNG"), [WHITE, RED]),
    "RGBA half": (
        saved(Image.frombytes("RGBA", (2, 1), bytes([0, 0, 0, 0, 0, 0, 0, 128])), "PNG"),
        [WHITE, (127,) * 3],
    ),
    "RGBA WebP": (
        saved(Image.frombytes("RGBA", (2, 1), bytes([0, 0, 0, 0, 255, 0, 0, 255])), "WEBP", lossless=True),
        [WHITE, RED],
    ),
    "LA": (saved(Image.frombytes("LA", (2, 1), bytes([0, 0, 9, 255])), "PNG"), [WHITE, (9, 9, 9)]),
    "RGBA 16": (png(6, 16, struct.pack(">8H", 0, 0, 0, 0, 65535, 0, 0, 65535)), [WHITE, RED]),
    "LA 16": (png(4, 16, struct.pack(">4H", 0, 0, 0x0909, 65535)), [WHITE, (9, 9, 9)]),
    "P, one clear": (saved(palette_with_alpha(), "PNG", transparency=0), [WHITE, RED]),
    "P, alpha by entry": (saved(palette_with_alpha(), "PNG", transparency=bytes([0, 255])), [WHITE, RED]),
    "GIF": (saved(palette_with_alpha(), "GIF", transparency=0), [WHITE, RED]),
    "RGB, a colour clear": (png(2, 8, bytes([1, 2, 3, 4, 5, 6]), struct.pack(">3H", 1, 2, 3)), [WHITE, (4, 5, 6)]),
    "RGB 16, a colour clear": (
        png(2, 16, struct.pack(">6H", 1000, 2000, 3000, 65535, 0, 0), struct.pack(">3H", 1000, 2000, 3000)),
        [WHITE, RED],
    ),
    "L, a grey clear": (png(0, 8, bytes([1, 6]), struct.pack(">H", 1)), [WHITE, (6, 6, 6)]),
    "4 bits, a grey clear": (png(0, 4, bytes([0x13]), struct.pack(">H", 1)), [WHITE, (51, 51, 51)]),
    "2 bits, a grey clear": (png(0, 2, bytes([0b01100000]), struct.pack(">H", 1)), [WHITE, (170, 170, 170)]),
    "1 bit, black clear": (png(0, 1, bytes([0b00000000]), struct.pack(">H", 0)), [WHITE, WHITE]),
    "16 bits, a grey clear": (png(0, 16, struct.pack(">2H", 1000, 0), struct.pack(">H", 1000)), [WHITE, BLACK]),
}


@pytest.mark.parametrize("name", sorted(TRANSPARENT))
def test_what_is_transparent_shows_white(name: str):
    data, expected = TRANSPARENT[name]
    assert shown(data) == expected


def test_black_drawing_on_nothing_is_not_wholly_black():
    drawing = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (5, 5, 10, 10))
    assert np.asarray(decode(saved(drawing, "PNG"), 1000)).mean() == pytest.approx(255 * (1 - 25 / 400))


def gif(canvas: tuple[int, int], corner: tuple[int, int], clear: bool) -> bytes:
    """A GIF whose first frame is one red pixel; the palette's first colour is black, its background blue."""
    head = struct.pack("<HHBBB", *canvas, 0x81, 2, 0) + bytes([*BLACK, *RED, *BLUE, *BLUE])
    mark = b"\x21\xf9\x04\x01\0\0\x03\0" if clear else b""
    frame = b"\x2c" + struct.pack("<4HB", *corner, 1, 1, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + head + mark + frame + b";"


@pytest.mark.parametrize("clear", [False, True])
def test_canvas_around_the_first_frame_of_a_gif_is_white(clear: bool):
    assert shown(gif((3, 1), (1, 0), clear)) == [WHITE, RED, WHITE]
    assert shown(gif((1, 1), (0, 0), clear)) == [RED]


def test_cmyk_and_other_colour_models_are_brought_to_rgb():
    assert shown(saved(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF")) == [RED]
    (colour,) = set(shown(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)))
    assert colour == pytest.approx(RED, abs=3)
    lab = ImageCms.profileToProfile(
        Image.new("RGB", (1, 1), (200, 30, 60)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    assert shown(saved(lab, "TIFF"))[0] == pytest.approx((200, 30, 60), abs=3)


PICTURE = np.array([[RED, BLUE, BLUE], [BLACK, WHITE, WHITE]], np.uint8)  # all eight turns of it differ
UPRIGHT = {  # EXIF: which side of the upright picture the file's first row and first column are
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.transpose(1, 0, 2),
    6: np.rot90(PICTURE, -1),
    7: PICTURE.transpose(1, 0, 2)[::-1, ::-1],
    8: np.rot90(PICTURE, 1),
}


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", [*UPRIGHT, 0, 9])
def test_picture_is_turned_upright(format: str, orientation: int):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    blocks = np.kron(PICTURE, np.ones((16, 16, 1), np.uint8)) if format == "JPEG" else PICTURE
    settings = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(format, {})
    data = saved(Image.fromarray(blocks), format, exif=exif, **settings)
    found = np.asarray(decode(data, 10_000))
    expected = UPRIGHT.get(orientation, PICTURE)
    if format == "JPEG":  # the middle of each block
        assert np.abs(found[8::16, 8::16].astype(int) - expected).max() < 9
    else:
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "1"])
def test_every_mode_is_turned(mode: str):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert decode(saved(Image.new(mode, (3, 2)), "PNG", exif=exif), 1000).size == (2, 3)


def test_damaged_exif_turns_nothing_and_rejects_nothing():
    exif = b"Exif\0\0II*\0" + b"\xff" * 40
    data = saved(Image.new("RGB", (16, 8)), "JPEG", exif=exif)
    assert decode(data, 1000).size == (16, 8)
    verify(data, 1000)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_opaque_8_bit_pixels_are_those_of_pillow(format: str, mode: str):
    noise = Image.fromarray(np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)).convert(mode)
    if mode in ("P", "1") and format in ("JPEG", "WEBP", "PPM", "JPEG2000", "AVIF"):
        noise = noise.convert("L")
    data = saved(noise, format)
    with Image.open(io.BytesIO(data)) as image:
        assert decode(data, 1000).tobytes() == image.convert("RGB").tobytes()
