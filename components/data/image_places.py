"""Folder, zip, tar, tars under a folder, several of these side by side: names to extents, nothing unpacked."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np

from components.data.extent import Extent
from components.data.images import ImageError
from components.data.tar import BLOCK, is_plain, tar_members
from components.errors import UserError

_OPEN_TARS = 8
_ENCRYPTED = 1  # bit of a zip member's flags
_LINK = -2  # size of a member that is no plain file
_TOO_LARGE = 2**31 - 1  # no image has so many bytes; more are not told apart


class Place(Protocol):
    """A folder or archive: where a name's bytes lie, or None; ImageError where it may not be read."""

    def find(self, name: str) -> Extent | None: ...

    def names(self) -> Iterator[str]: ...


def open_place(path: Path) -> Place:
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise UserError(f"{path} is missing; put the images there or change the source's images")
    return Zip(path) if zipfile.is_zipfile(path) else Tar(path)


class Folder:
    def __init__(self, root: Path):
        self._root = root.resolve()

    def find(self, name: str) -> Extent | None:
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
        return Extent(path, 0, found.st_size, found.st_mtime_ns)

    def names(self) -> Iterator[str]:
        for folder, below, files in os.walk(self._root):
            below.sort()
            for file in sorted(files):
                yield Path(folder, file).relative_to(self._root).as_posix()


class Zip:
    def __init__(self, path: Path):
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, OverflowError, struct.error) as error:
            raise UserError(f"{path} is cut off or damaged ({error}); get the file again") from None
        self._path, self._changed = str(path.resolve()), path.stat().st_mtime_ns
        self._prefix = _common_folder(self._zip.namelist())

    def find(self, name: str) -> Extent | None:
        member = self._member(name)
        if member is None:
            return None
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ImageError("image_outside_root", f"{name} is a link")
        if member.flag_bits & _ENCRYPTED:
            raise ImageError("image_unreadable", f"{name} is encrypted")
        size, packed, method = member.file_size, member.compress_size, member.compress_type
        return Extent(self._path, member.header_offset, size, self._changed, packed, method, member.CRC)

    def _member(self, name: str) -> zipfile.ZipInfo | None:
        for candidate in (name, f"./{name}", self._prefix + name):
            try:
                return self._zip.getinfo(candidate)
            except KeyError:
                continue
        return None

    def names(self) -> Iterator[str]:
        yield from sorted(member.filename for member in self._zip.infolist() if not member.is_dir())


class Tar:
    """Where each member lies, as three numbers a member: a million images take 16 MB, not a gigabyte."""

    def __init__(self, path: Path):
        if path.stat().st_size >= 2**32 * BLOCK:
            raise UserError(f"{path} is larger than 2 TiB; split it")
        self._archive = path
        self._path, self._changed = str(path.resolve()), path.stat().st_mtime_ns
        hashes, blocks, sizes = array("Q"), array("I"), array("i")
        prefix: str | None = None
        for member in tar_members(path):
            if member.isdir():
                continue
            name = member.name.removeprefix("./")
            prefix = _shared_folder(prefix, name)
            hashes.append(_hash(name))
            blocks.append(member.offset_data // BLOCK)  # where a member begins
            sizes.append(min(member.size, _TOO_LARGE) if is_plain(member) else _LINK)
        order = np.argsort(np.asarray(hashes), kind="stable")
        self._hashes, self._blocks, self._sizes = (np.asarray(each)[order] for each in (hashes, blocks, sizes))
        self._prefix = prefix or ""

    def find(self, name: str) -> Extent | None:
        for candidate in (name, self._prefix + name):
            at = _position(self._hashes, _hash(candidate))
            if at is None:
                continue
            if self._sizes[at] == _LINK:
                raise ImageError("image_outside_root", f"{name} is a link or no regular file")
            return Extent(self._path, int(self._blocks[at]) * BLOCK, int(self._sizes[at]), self._changed)
        return None

    def names(self) -> Iterator[str]:
        members = tar_members(self._archive)
        yield from sorted(member.name.removeprefix("./") for member in members if is_plain(member))


class Tars:
    """All tars under a folder, as `<tar>/<member>`; the lists of a few are held at once."""

    def __init__(self, root: Path):
        self._root = root
        self._open: OrderedDict[str, Tar] = OrderedDict()

    def find(self, name: str) -> Extent | None:
        archive, _, member = name.partition(".tar/")
        archive += ".tar"
        if archive not in self._open:
            self._open[archive] = Tar(self._root / archive)
            if len(self._open) > _OPEN_TARS:
                self._open.popitem(last=False)
        return self._open[archive].find(member)

    def names(self) -> Iterator[str]:
        for path in sorted(self._root.rglob("*.tar")):
            archive = path.relative_to(self._root).as_posix()
            yield from (f"{archive}/{name}" for name in Tar(path).names())


class Parts:
    """Places by the first part of a name: `coco/train2017` -> train2017.zip, `gqa/images` -> images.zip."""

    def __init__(self, places: Mapping[str, Place]):
        self._places = {f"{part.strip('/')}/": place for part, place in places.items()}
        self._longest_first = sorted(self._places, key=len, reverse=True)

    def find(self, name: str) -> Extent | None:
        part = next((part for part in self._longest_first if name.startswith(part)), None)
        return self._places[part].find(name.removeprefix(part)) if part else None

    def names(self) -> Iterator[str]:
        for part in sorted(self._places):
            yield from (part + name for name in self._places[part].names())


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest())


def _position(hashes: np.ndarray, wanted: int) -> int | None:
    """The last member of that name, which is the one a tar means."""
    at = int(np.searchsorted(hashes, np.uint64(wanted), side="right")) - 1
    return at if at >= 0 and hashes[at] == wanted else None


def _common_folder(names: list[str]) -> str:
    shared: str | None = None
    for name in names:
        if not name.endswith("/"):
            shared = _shared_folder(shared, name)
    return shared or ""


def _shared_folder(shared: str | None, name: str) -> str:
    """`folder/` while all names lie in one top folder, which annotations then may leave out; else nothing."""
    top = name.partition("/")[0] + "/" if "/" in name else ""
    return top if shared is None or shared == top else ""
