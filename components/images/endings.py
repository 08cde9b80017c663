"""Endings of files: which are an image's, and which others an image may have whose name in a record is not there."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

# The common ones first, each in small letters, then in capitals, then as .Jpg: the first that is there is read.
_COMMON = (".jpg", ".jpeg", ".png", ".gif", ".webp")
_RARE = (".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".jfif")
IN_ORDER = (
    *_COMMON,
    *(ending.upper() for ending in _COMMON),
    *_RARE,
    *(ending.upper() for ending in _RARE),
    *(f".{ending[1:].capitalize()}" for ending in (*_COMMON, *_RARE)),
)
# Of files that are not read, or rare: a record may have them where the image was converted since.
_OTHERS = (
    *(".apng", ".jpe", ".jif", ".jpf", ".jpx", ".j2k", ".j2c", ".jpc", ".pnm", ".pfm", ".avifs", ".dib", ".mpo"),
    *(".heic", ".heif", ".hif", ".jxl", ".svg", ".ico", ".tga", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"),
)
_KNOWN = frozenset((*_COMMON, *_RARE, *_OTHERS))
_ENDING = re.compile(r"[^/]\.[A-Za-z][A-Za-z0-9_-]*\Z")  # a number is none (plate.2), nor is what a name begins with


def ending_of(name: str) -> str:
    """The ending of any file's name, as it is written (`.jpg`, `.mp4`, `.jpg_large`); empty where it has none."""
    found = _ENDING.search(name)
    return found.group()[1:] if found else ""


def has_image_ending(name: str) -> bool:
    return ending_of(name).lower() in _KNOWN


def with_other_endings(name: str, there: Container[str] = IN_ORDER) -> Iterator[str]:
    """The name with each image ending that is `there`, in place of its own or, where that is no image's, behind it.

    `plate.1` has no ending, and `St.Petersburg` may have none: it is `St.Petersburg.jpg` before it is `St.jpg`.
    """
    own = ending_of(name)
    stems = [name] if own.lower() not in _KNOWN else []
    if own:
        stems.append(name.removesuffix(own))
    for stem in stems:
        for ending in IN_ORDER:
            if ending in there and stem + ending != name:
                yield stem + ending
