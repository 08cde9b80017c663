"""What a TIFF's tags say of its samples: Pillow opens several layouts in one mode, and refuses others as damaged."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, TiffImagePlugin

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _NUM_SAMPLES, _FORMAT = 256, 257, 258, 259, 262, 277, 339  # tags
_STRIPS, _TILES = 273, 324  # tags: where the pixels lie
_WHITE_IS_ZERO = 0  # of the tag PhotometricInterpretation
_UNSIGNED, _SIGNED, _FLOATING = 1, 2, 3  # of the tag SampleFormat
_FORMATS = {_UNSIGNED: "whole", _SIGNED: "signed", _FLOATING: "floating"}
_COLOURS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "LAB", 9: "LAB"}


def white_is_zero(image: Image.Image) -> bool:
    """Whether the least value is white. Pillow inverts samples of up to 8 bits itself, and no others."""
    return _first(_tags(image), _PHOTOMETRIC, None) == _WHITE_IS_ZERO


def num_bits(image: Image.Image, most: int) -> int:
    """Bits of a sample as the file states them; `most` for other formats than TIFF."""
    found = _first(_tags(image), _BITS, most)
    return found if isinstance(found, int) and 0 < found <= most else most


def number_type(image: Image.Image) -> str | None:
    """The NumPy type of the samples where Pillow hands them on as another: int8 as L, uint32 as I."""
    tags = _tags(image)
    if tags is None:
        return None
    return {("L", _SIGNED): "int8", ("I", _UNSIGNED): "uint32"}.get((image.mode, _first(tags, _FORMAT, _UNSIGNED)))


def layout(data: bytes) -> str | None:
    """What the samples of a TIFF are, in words; None where its header is damaged."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:16] if data[2:3] == b"+" or data[3:4] == b"+" else data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next or 0)
        tags.load(stream)
        width, height, bits = (_first(tags, number, 0) for number in (_WIDTH, _HEIGHT, _BITS))
        pixels = _first(tags, _STRIPS, _first(tags, _TILES, 0))
        samples, packing = _first(tags, _NUM_SAMPLES, 1), _first(tags, _COMPRESSION, 1)
        colour = _COLOURS.get(_first(tags, _PHOTOMETRIC, None), "of unknown colours")
        numbers = _FORMATS.get(_first(tags, _FORMAT, _UNSIGNED), "unknown")
    except Exception:  # Pillow's readers raise almost anything on damaged bytes
        return None
    stated = (width, height, bits, samples, packing, pixels)
    if not all(isinstance(number, int) and number > 0 for number in stated) or pixels >= len(data):
        return None
    packed = "" if packing in TiffImagePlugin.COMPRESSION_INFO else f", compression {packing}"
    return f"{colour}, {samples} x {bits} bits, {numbers} numbers{packed}"


def _tags(image: Image.Image) -> Any:
    return image.tag_v2 if image.format == "TIFF" else None  # type: ignore[attr-defined]


def _first(tags: Any, number: int, default: Any) -> Any:
    """The value of a tag, the first where there is one for each sample."""
    found = default if tags is None else tags.get(number, default)
    return (found[0] if found else default) if isinstance(found, tuple) else found
