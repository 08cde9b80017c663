"""Pictures for the page (data URIs, so that it needs no second file) and for Markdown (files)."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

LARGEST = 448  # pixels per side in the page; a photograph larger than this is reduced
SMALL = 128  # pixels per side; below this the page enlarges without smoothing, so that pixels can be seen
ENLARGED = 192  # pixels per side of a small picture in Markdown, where no style can enlarge it


@dataclass(frozen=True)
class Picture:
    uri: str
    width: int
    height: int
    pixelated: bool

    @property
    def wide(self) -> bool:
        return self.width > 1.6 * self.height


def picture(path: Path) -> Picture:
    """A small picture as it is; a large one reduced, as JPEG."""
    with Image.open(path) as image:
        width, height = image.size
        if max(width, height) <= SMALL:
            return Picture(_uri(_encoded(image, "PNG"), "image/png"), width, height, True)
        reduced = image.convert("RGB")
    reduced.thumbnail((LARGEST, LARGEST))
    return Picture(_uri(_encoded(reduced, "JPEG"), "image/jpeg"), *reduced.size, False)


def is_wide(path: Path) -> bool:
    """Two squares side by side, or nearly."""
    with Image.open(path) as image:
        return image.width > 1.6 * image.height


def write_enlarged(source: Path, target: Path) -> None:
    """The picture for Markdown: a small one enlarged by a whole factor, so that each pixel stays a square."""
    with Image.open(source) as image:
        factor = max(1, ENLARGED // max(image.size))
        shown = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    if factor == 1:
        shown.thumbnail((LARGEST, LARGEST))
    shown.save(target)


def _encoded(image: Image.Image, form: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **({"quality": 88} if form == "JPEG" else {"optimize": True}))
    return stream.getvalue()


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
