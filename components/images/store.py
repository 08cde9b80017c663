"""Images by name out of folders, zips and tars, without unpacking and without leaving them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from components.images.byte_ranges import ByteRange, read_byte_range
from components.images.decoding import ImageError
from components.images.endings import with_other_endings
from components.images.names import plain_name
from components.images.places import Parts, Place, Tars, open_place

_BYTES_PER_PIXEL = 8  # no image file of the accepted size is larger than this
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class ImageStore:
    """The images of one source.

    A name is a path inside the folder or archive. Where the file is not there, the same name with another
    image ending is tried, of those that files there have: OCR-VQA's annotations say .jpg for files saved as .png or
    .gif, and those of others no ending at all. What the bytes are is then seen from the bytes, never from an ending.
    Forms of Unicode, separators and old encodings of names do not matter (names.py); capitals do, and a file that
    differs in them alone is named.
    """

    def __init__(self, place: Place, max_pixels: int):
        self._place = place
        self._limit = max_pixels * _BYTES_PER_PIXEL + (1 << 20)

    @classmethod
    def open(cls, root: Path, images: str | Mapping[str, str] | None, max_pixels: int) -> ImageStore:
        """`images` lies under `root`: a folder, zip or tar, or several by the first part of the names.

        None: names are `<tar under root>/<member>` (WebDataset).
        """
        if images is None:
            return cls(Tars(root), max_pixels)
        if isinstance(images, str):
            return cls(open_place(root / images), max_pixels)
        return cls(Parts({part: open_place(root / path) for part, path in images.items()}), max_pixels)

    def find(self, name: str) -> tuple[ByteRange, bool]:
        """Where the bytes lie, and whether under another ending. ImageError: outside, a link, missing, too large."""
        try:
            name = safe_name(name)
        except ImageError as error:
            shorter = self._shorter(name) if error.reason == "image_outside_root" else ""
            raise ImageError(error.reason, error.detail + shorter) from None
        found = self._place.find(name)
        if found is not None:
            return self._small_enough(found, name), False
        for other in with_other_endings(name, self._place.endings(name)):
            if (found := self._place.find(other)) is not None:
                return self._small_enough(found, name), True
        raise ImageError("image_missing", f"{name}{self._near(name)}")

    def _near(self, name: str) -> str:
        """What lies there under a name that differs in spelling, in words; empty where nothing does."""
        similar = self._place.similar(name)
        if similar:
            return f"; {similar} differs in capitals"
        plain = unquote(name)
        if plain != name and self._is_there(plain):
            return f"; {plain} is there, and the record has it as a URL has it"
        return self._shorter(name)

    def _shorter(self, name: str) -> str:
        """What lies there under the name without its first folders, in words: of an absolute path, say."""
        parts = plain_name(name).split("/")
        found = (n for n in range(1, len(parts)) if ".." not in parts[n:] and self._is_there("/".join(parts[n:])))
        number = next(found, None)
        if number is None:
            return ""
        return f"; {'/'.join(parts[number:])} is there, without {'/'.join(parts[:number])}"

    def _is_there(self, name: str) -> bool:
        try:
            return self._place.find(safe_name(name)) is not None
        except ImageError:
            return False

    def read(self, name: str) -> tuple[bytes, bool]:
        """The bytes, and whether they lay under another ending."""
        byte_range, other_ending = self.find(name)
        return read_byte_range(byte_range), other_ending

    def names(self) -> Iterator[str]:
        """All files, sorted by name."""
        return self._place.names()

    def _small_enough(self, byte_range: ByteRange, name: str) -> ByteRange:
        if max(byte_range.size, byte_range.packed) > self._limit:
            raise ImageError("image_too_large", f"{name}: {byte_range.size} bytes")
        return byte_range


def safe_name(name: str) -> str:
    """The name with `.` parts taken out; ImageError where it could leave the root, or is no name of a file."""
    if name.startswith("data:"):
        raise ImageError("image_in_record", "a data: URL")
    if _URL.match(name):
        raise ImageError("image_is_url", name[:200])
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in parts or "\0" in name:
        raise ImageError("image_outside_root", name[:200])
    if not parts or not _encodes(name):
        raise ImageError("image_missing", repr(name[:200]))
    return "/".join(parts)


def _encodes(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
