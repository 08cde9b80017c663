"""Image bytes to pixels: the one place where an image is decoded, for checking, training, evaluation and serving."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from components.images import tiff
from components.images.kinds import HEAD, kind_of
from components.images.rgb import to_rgb

T = TypeVar("T")
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF")
READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, PPM and AVIF"
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# Each scan of a JPEG passes over all its pixels. Encoders write about 10, at most 24: 32 are always read, and more
# as long as the pixels passed over take no longer than a second.
_USUAL_SCANS, _MOST_SCANS, _MOST_PIXELS_PASSED = 32, 500, 10**9
_LONGEST_SIDE = 2**17  # pixels; each row and column has a cost of its own, and no real picture is so long
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd8\xff]")  # coded data hold 255 only before 0 or a restart marker
_SCAN, _END = 0xDA, 0xD9
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # in a message: differs from run to run


class ImageError(Exception):
    """An image that cannot be used: `reason` is a code of checks.REASONS."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """RGB pixels of the first frame, as rgb.to_rgb has them.

    Size and number of scans are looked at before anything is decoded; raises ImageError.
    """
    return _opened(data, max_pixels, to_rgb)


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
        to_rgb(image)


def _opened(data: bytes, max_pixels: int, use: Callable[[Image.Image], T]) -> T:
    if not data:
        raise ImageError("image_empty")
    if data.startswith(_LFS_POINTER):
        raise ImageError("image_lfs_pointer", "run: git lfs pull")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError("image_too_large", f"{image.width} x {image.height} pixels")
            if max(image.size) > _LONGEST_SIDE:
                raise ImageError("image_too_costly", f"{image.width} x {image.height}: a side above {_LONGEST_SIDE}")
            if image.format in ("JPEG", "MPO"):
                _refuse_many_scans(data, image.width * image.height)
            return use(image)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image_too_large", str(error)) from None
    except UnidentifiedImageError:
        raise _not_an_image(data) from None
    except Exception as error:  # Pillow's readers raise almost anything on damaged bytes
        raise ImageError("image_corrupt", _ADDRESS.sub("", f"{type(error).__name__}: {error}")[:200]) from None


def _not_an_image(data: bytes) -> ImageError:
    kind = kind_of(data[:HEAD])
    if kind is None:
        return ImageError("image_corrupt", f"begins as no known kind of file; {READ} are read")
    if kind == "TIFF" and (layout := tiff.layout(data)):
        return ImageError("image_other_kind", f"a TIFF of a layout that is not read ({layout}); save it as 8-bit RGB")
    if kind in READ.replace(" and ", ", ").split(", "):
        return ImageError("image_corrupt", f"begins as {kind}, but its header is damaged")
    return ImageError("image_other_kind", f"is {kind}; {READ} are read")


def _refuse_many_scans(data: bytes, pixels: int) -> None:
    scans = num_scans(data)
    if scans > _MOST_SCANS or (scans > _USUAL_SCANS and scans * pixels > _MOST_PIXELS_PASSED):
        raise ImageError("image_too_costly", f"{scans} scans of {pixels} pixels")


def num_scans(data: bytes) -> int:
    """Scans of the first picture in a JPEG file; what an embedded thumbnail or profile holds does not count."""
    scans, at = 0, 2
    while found := _MARKER.search(data, at):
        kind, at = found[0][1], found.end()
        if kind == _END:
            break
        scans += kind == _SCAN
        if kind > 1:  # all but the reserved 1 name the length of what follows
            at += int.from_bytes(data[at : at + 2])
    return scans
