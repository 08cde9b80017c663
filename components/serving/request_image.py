"""The image of a request: base64 text as tools write it, or a data URL. No path and no URL is opened for a caller."""

from __future__ import annotations

import base64
import binascii
import io
import math
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image

from components.images.decoding import ImageError, decode

_SHORTEST_LINE = 60  # characters: tools write 64 or 76, and always whole groups of 4
MAX_RATIO = 100  # long side to short side
MAX_SQUARE = 4  # times the pixels of an image: what a square around it may have
_URL_SAFE = str.maketrans("-_", "+/")


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
    if value.lstrip()[:5].lower() == "data:":
        head, comma, text = value.partition(",")
        if not comma or not head.replace(" ", "").lower().endswith(";base64"):
            raise ValueError("image is a data URL without base64; give data:image/png;base64,...")
        return _decoded(unquote(text), value)  # a URL may hold %2B for +
    if value[:8].lower().startswith(("http://", "https://", "file:")):
        raise ValueError("image is a URL, and none is fetched here; send the image's bytes as base64 or a data: URL")
    if allow_paths and len(value) < 4096 and "\0" not in value and Path(value).exists():
        return read_file(Path(value))
    return _decoded(value, value)


def _decoded(text: str, shown: str) -> bytes:
    plain = _without_breaks(text).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        raise ValueError(
            f"image must be base64 text or a data: URL with base64 (paths are not read), got {shown[:40]!r}"
        ) from None


def _without_breaks(text: str) -> str:
    """One line of base64. A blank was a `+` before a form was decoded, unless it stands between or beside lines.

    Blanks that could be either stay, and are refused: the picture would be another one.
    """
    lines = [line for line in text.strip().replace("\t", "").replace("\r", "\n").split("\n") if line.strip()]
    if len(lines) < 2:
        return _without_blanks("".join(lines))
    inside = "".join(line.strip(" ") for line in lines)
    if " " in inside and _are_lines(lines):
        return "".join(lines).replace(" ", "+")
    return inside


def _without_blanks(text: str) -> str:
    """Blanks in place of line breaks, so between lines of equal length, go; any other was a `+`."""
    lines = [line for line in text.split(" ") if line]
    joined, with_plus = "".join(lines), text.replace(" ", "+")
    whole = len(joined) % 4 == 0 or len(with_plus) % 4 != 0
    return joined if _are_lines(lines) and whole else with_plus


def _are_lines(lines: list[str]) -> bool:
    """All but the last have the same length, as a tool that breaks lines leaves them."""
    lengths = {len(line) for line in lines[:-1]}
    return len(lengths) == 1 and min(lengths) % 4 == 0 and min(lengths) >= _SHORTEST_LINE


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
