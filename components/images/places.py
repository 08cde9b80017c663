"""Folder, zip, tar, tars under a folder, several of these side by side: names to byte ranges, nothing unpacked."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from components.errors import UserError
from components.images.archive import Archive, open_archive
from components.images.byte_ranges import ByteRange
from components.images.decoding import ImageError

_OPEN_TARS = 8


class Place(Protocol):
    """A folder or archive: where a name's bytes lie, or None; ImageError where it may not be read."""

    def find(self, name: str) -> ByteRange | None: ...

    def names(self) -> Iterator[str]: ...


def open_place(path: Path) -> Place:
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise UserError(f"{path} is missing; put the images there or change the source's images")
    return open_archive(path)


class Folder:
    def __init__(self, root: Path):
        self._root = root.resolve()

    def find(self, name: str) -> ByteRange | None:
        path = f"{self._root}/{name}"
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ImageError("image_unreadable", f"{name}: {error.strerror}") from None
        if os.path.realpath(path) != path:
            raise ImageError("image_outside_root", f"{name} is or passes through a link")
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("image_unreadable", f"{name} is no regular file")
        return ByteRange(path, 0, found.st_size, found.st_mtime_ns)

    def names(self) -> Iterator[str]:
        for folder, below, files in os.walk(self._root):
            below.sort()
            for file in sorted(files):
                yield Path(folder, file).relative_to(self._root).as_posix()


class Tars:
    """All tars under a folder, as `<tar>/<member>`; the lists of a few are held at once."""

    def __init__(self, root: Path):
        self._root = root
        self._open: OrderedDict[str, Archive] = OrderedDict()

    def find(self, name: str) -> ByteRange | None:
        archive, _, member = name.partition(".tar/")
        archive += ".tar"
        if archive not in self._open:
            self._open[archive] = open_archive(self._root / archive)
            if len(self._open) > _OPEN_TARS:
                self._open.popitem(last=False)
        return self._open[archive].find(member)

    def names(self) -> Iterator[str]:
        for path in sorted(self._root.rglob("*.tar")):
            archive = path.relative_to(self._root).as_posix()
            yield from (f"{archive}/{name}" for name in open_archive(path).names())


class Parts:
    """Places by the first part of a name: `coco/train2017` -> train2017.zip, `gqa/images` -> images.zip."""

    def __init__(self, places: Mapping[str, Place]):
        self._places = {f"{part.strip('/')}/": place for part, place in places.items()}
        self._longest_first = sorted(self._places, key=len, reverse=True)

    def find(self, name: str) -> ByteRange | None:
        part = next((part for part in self._longest_first if name.startswith(part)), None)
        return self._places[part].find(name.removeprefix(part)) if part else None

    def names(self) -> Iterator[str]:
        for part in sorted(self._places):
            yield from (part + name for name in self._places[part].names())
