"""Image bytes to pixels: the one place where an image is decoded, for checking and for training."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

from PIL import Image

T = TypeVar("T")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class ImageError(Exception):
    """An image that cannot be used: `reason` is a code of checks.REASONS."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """RGB pixels of the first frame. Size is looked at before anything is decoded; raises ImageError."""
    return _opened(data, max_pixels, lambda image: image.convert("RGB"))


def verify(data: bytes, max_pixels: int) -> None:
    """Raise ImageError where `decode` would, for less than half of its time on JPEG.

    All of a JPEG's entropy-coded data is decoded, which is where damage shows; the transform to pixels, which
    cannot fail, is done at an eighth of the size and in grey.
    """
    _opened(data, max_pixels, _decode_coarsely)


def _decode_coarsely(image: Image.Image) -> None:
    if image.format == "JPEG":
        image.draft("L", (1, 1))
        image.load()
    else:
        image.convert("RGB")


def _opened(data: bytes, max_pixels: int, use: Callable[[Image.Image], T]) -> T:
    if not data:
        raise ImageError("image_empty")
    if data.startswith(_LFS_POINTER):
        raise ImageError("image_lfs_pointer", "run: git lfs pull")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError("image_too_large", f"{image.width} x {image.height} pixels")
            return use(image)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image_too_large", str(error)) from None
    except Exception as error:  # Pillow's readers raise almost anything on damaged bytes
        raise ImageError("image_corrupt", f"{type(error).__name__}: {error}"[:200]) from None
