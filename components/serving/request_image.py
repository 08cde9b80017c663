"""The image of a request: base64 text as tools write it, or a data URL. No path and no URL is opened for a caller."""

from __future__ import annotations

import io
import math
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from components.images.decoding import ImageError, decode
from components.images.encoded import decoded, is_data_url

MAX_RATIO = 100  # long side to short side
MAX_SQUARE = 4  # times the pixels of an image: what a square around it may have


def image_bytes(value: Any, *, allow_paths: bool = False) -> bytes | None:
    """The bytes of an image given in one of the accepted forms; None where there is none. ValueError in one line.

    Accepted: bytes; base64, also in lines (indented too), URL-safe or without padding; `data:image/...;base64,...`.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):  # pandas has NaN for a missing value
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str):
        raise ValueError(f"image must be base64 text, got {type(value).__name__}")
    if is_data_url(value):
        return decoded(value)
    if value[:8].lower().startswith(("http://", "https://", "file:")):
        raise ValueError("image is a URL, and none is fetched here; send the image's bytes as base64 or a data: URL")
    if allow_paths and _exists(value):
        return read_file(Path(value))
    return decoded(value)


def _exists(path: str) -> bool:
    """False too for what can be no path: base64 is longer than the name of a file may be."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # ValueError: a NUL or half a surrogate pair, by the version of Python
        return False


def read_file(path: Path, limit: int = 1 << 28) -> bytes:
    """A regular file's bytes; a pipe or a device would hang whoever reads it, and an endless file fill the memory."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{path} is no regular file")
    if about.st_size > limit:
        raise ValueError(f"{path} has {about.st_size:,} bytes; an image may have {limit:,}")
    return path.read_bytes()


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the file's head states them, zeros where it cannot be read (decoding says why)."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size
    except Exception:  # Pillow's readers raise almost anything on damaged bytes
        return 0, 0


def check_shape(data: bytes, max_pixels: int) -> None:
    """ValueError for a strip: padded to a square, or enlarged until its short side fits, it costs gigabytes."""
    width, height = size_of(data)
    long, short = max(width, height), min(width, height)
    if long * long > MAX_SQUARE * max_pixels or long > MAX_RATIO * max(short, 1):
        raise ValueError(f"image too long for its width ({width} x {height} pixels)")


def check_cost(images: Sequence[bytes], *, max_bytes: int, max_pixels: int) -> None:
    """ValueError where the images of one request have more bytes or more pixels together than may be given."""
    size = sum(map(len, images))
    if size > max_bytes:
        raise ValueError(f"the images of the request have {size:,} bytes; at most {max_bytes:,} may be sent at once")
    pixels = sum(width * height for width, height in map(size_of, images))
    if pixels > max_pixels:
        raise ValueError(f"the images of the request have {pixels:,} pixels; at most {max_pixels:,} may be at once")


def decode_for_caller(data: bytes, max_pixels: int) -> Image.Image:
    """RGB pixels; ValueError in one line where the bytes are no image that can be used."""
    check_shape(data, max_pixels)
    try:
        return decode(data, max_pixels)
    except ImageError as error:
        reason = error.reason.replace("_", " ") + (f" ({first_words(error.detail)})" if error.detail else "")
        raise ValueError(reason) from None


def first_words(text: str, length: int = 120) -> str:
    return " ".join(text.split())[:length]
