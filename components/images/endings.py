"""Endings of image files: which other names a file may have whose name in a record is not there."""

from __future__ import annotations

from collections.abc import Iterator

# The common ones first, each in small letters, then in capitals, then as .Jpg: the first that is there is read.
_COMMON = (".jpg", ".jpeg", ".png", ".gif", ".webp")
_RARE = (".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm", ".pgm", ".pbm", ".jfif")
_ORDER = (
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


def has_image_ending(name: str) -> bool:
    return _split(name)[1] != ""


def with_other_endings(name: str) -> Iterator[str]:
    """The name with each image ending but its own, which is replaced; `plate.1` has none, and gets one."""
    stem, own = _split(name)
    for ending in _ORDER:
        if ending != own:
            yield stem + ending


def _split(name: str) -> tuple[str, str]:
    """The name without its image ending, and the ending as it is written; empty where it has none."""
    file = name[name.rfind("/") + 1 :]
    at = file.rfind(".")
    if at < 1 or file[at:].lower() not in _KNOWN:  # a name that begins with its only dot is no ending
        return name, ""
    return name[: len(name) - len(file) + at], file[at:]
