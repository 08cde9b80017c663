"""Folder, zip, tar, tars under a folder, several of these side by side: names to byte ranges, nothing unpacked."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Protocol

from components.errors import UserError
from components.images.archive import Archive, open_archive
from components.images.byte_ranges import ByteRange
from components.images.decoding import ImageError
from components.images.dvc_cache import is_cached
from components.images.listing import Listings
from components.images.names import folded, is_companion, shown, spellings

_OPEN_TARS = 8
_LISTED_FOLDERS, _LONGEST_LISTING = 8, 50_000


class Place(Protocol):
    """A folder or archive: where a name's bytes lie, or None; ImageError where it may not be read."""

    def find(self, name: str) -> ByteRange | None: ...

    def endings(self, name: str) -> Collection[str]:
        """The image endings of the files among which that name would lie, and perhaps more."""
        ...

    def similar(self, name: str) -> str | None:
        """A file whose name differs in capitals alone."""
        ...

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
        self._listings = Listings(self._root)
        self._listed = OrderedDict[str, dict[bytes, str]]()  # of the folders looked into last: name by folded name

    def find(self, name: str) -> ByteRange | None:
        """A link is followed only where it leads into DVC's cache."""
        given = name.encode()
        for spelling in self._spellings(name):
            if spelling != given and not self._listings.may_hold(spelling):
                continue
            path = os.fsdecode(os.fsencode(self._root) + b"/" + spelling)
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ImageError("image_unreadable", f"{name}: {error.strerror}") from None
            return self._checked(name, path, found)
        return None

    def endings(self, name: str) -> Collection[str]:
        possible = filter(self._listings.may_hold, self._spellings(name))
        folders = dict.fromkeys(spelling.rpartition(b"/")[0] for spelling in possible)
        return frozenset[str]().union(*(self._listings.of(folder).endings for folder in folders))

    def _spellings(self, name: str) -> list[bytes]:
        # a zip made on Windows, unpacked where the backslash is a letter like any other, comes last
        return list(dict.fromkeys((*spellings(name), name.replace("/", "\\").encode())))

    def _checked(self, name: str, path: str, found: os.stat_result) -> ByteRange:
        target = os.path.realpath(path)
        if target != path:
            if not is_cached(target):
                raise ImageError("image_outside_root", f"{name} is or passes through a link")
            try:
                found = os.lstat(target)
            except OSError as error:
                raise ImageError("image_unreadable", f"{name} in DVC's cache: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("image_unreadable", f"{name} is no regular file")
        return ByteRange(target, 0, found.st_size, found.st_mtime_ns)

    def similar(self, name: str) -> str | None:
        folder, slash, file = name.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = self._names_in(folder)
            if len(self._listed) > _LISTED_FOLDERS:
                self._listed.popitem(last=False)
        found = self._listed[folder].get(folded(file.encode()))
        return folder + slash + found if found else None

    def _names_in(self, folder: str) -> dict[bytes, str]:
        try:
            names = [entry.name for entry in islice(os.scandir(self._root / folder), _LONGEST_LISTING + 1)]
        except OSError:
            return {}
        if len(names) > _LONGEST_LISTING:  # it would be read again for each folder that is asked for in turn
            return {}
        return {folded(os.fsencode(name)): shown(os.fsencode(name)) for name in sorted(names, reverse=True)}

    def names(self) -> Iterator[str]:
        for folder, below, files in os.walk(self._root):
            below.sort()
            for file in sorted(files):
                name = Path(folder, file).relative_to(self._root).as_posix()
                if not is_companion(name):
                    yield shown(os.fsencode(name))


class Tars:
    """All tars under a folder, as `<tar>/<member>`; the lists of a few are held at once."""

    def __init__(self, root: Path):
        self._root = root
        self._open: OrderedDict[str, Archive] = OrderedDict()

    def find(self, name: str) -> ByteRange | None:
        archive, member = self._of(name)
        return archive.find(member)

    def endings(self, name: str) -> Collection[str]:
        archive, member = self._of(name)
        return archive.endings(member)

    def similar(self, name: str) -> str | None:
        archive, member = self._of(name)
        return archive.similar(member)

    def _of(self, name: str) -> tuple[Archive, str]:
        path, inside, member = name.partition(".tar/")
        path += ".tar"
        if path not in self._open:
            if not inside or not (self._root / path).is_file():
                raise ImageError("image_missing", f"{name}; images names no folder, zip or tar")
            self._open[path] = open_archive(self._root / path)
            if len(self._open) > _OPEN_TARS:
                self._open.popitem(last=False)
        return self._open[path], member

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
        part = self._part(name)
        return self._places[part].find(name.removeprefix(part)) if part else None

    def endings(self, name: str) -> Collection[str]:
        part = self._part(name)
        return self._places[part].endings(name.removeprefix(part)) if part else ()

    def similar(self, name: str) -> str | None:
        part = self._part(name)
        return self._places[part].similar(name.removeprefix(part)) if part else None

    def _part(self, name: str) -> str | None:
        return next((part for part in self._longest_first if name.startswith(part)), None)

    def names(self) -> Iterator[str]:
        for part in sorted(self._places):
            yield from (part + name for name in self._places[part].names())
