"""Images by name out of a folder, a zip or a tar, without unpacking and without leaving it."""

from __future__ import annotations

import os
import stat
import threading
import zipfile
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Protocol

from components.data.images import ImageError
from components.data.tar import is_plain, tar_members
from components.errors import UserError

_BYTES_PER_PIXEL = 8  # no image file of the accepted size is larger than this
_OTHER_ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp")
_OPEN_TARS = 8


class _Place(Protocol):
    """A folder or archive: bytes of a name, or None where it is not there; ImageError where it may not be read."""

    def read(self, name: str, limit: int) -> bytes | None: ...

    def names(self) -> Iterator[str]: ...


class ImageStore:
    """The images of one source. `read` may be called from several threads.

    A name is a path inside the folder or archive. Where the file is not there, the same name with another
    image ending is tried: OCR-VQA's annotations say .jpg for files saved as .png or .gif.
    """

    def __init__(self, place: _Place, max_pixels: int):
        self._place = place
        self._limit = max_pixels * _BYTES_PER_PIXEL + (1 << 20)

    @classmethod
    def open(cls, root: Path, images: str | None, max_pixels: int) -> ImageStore:
        """`images` lies under `root`; None: names are `<tar under root>/<member>` (WebDataset)."""
        if images is None:
            return cls(_Tars(root), max_pixels)
        path = root / images
        if path.is_dir():
            return cls(_Folder(path), max_pixels)
        if not path.is_file():
            raise UserError(f"{path} is missing; put the images there or change the source's images")
        return cls(_Zip(path) if zipfile.is_zipfile(path) else _Tar(path), max_pixels)

    def read(self, name: str) -> tuple[bytes, bool]:
        """The bytes, and whether they lay under another ending. ImageError: outside, a link, missing, too large."""
        name = safe_name(name)
        data = self._place.read(name, self._limit)
        if data is not None:
            return data, False
        stem = PurePosixPath(name)
        for ending in _OTHER_ENDINGS:
            if (
                ending != stem.suffix
                and (data := self._place.read(str(stem.with_suffix(ending)), self._limit)) is not None
            ):
                return data, True
        raise ImageError("image_missing", name)

    def names(self) -> Iterator[str]:
        """All files, sorted by name."""
        return self._place.names()


def safe_name(name: str) -> str:
    """The name with `.` parts taken out; ImageError where it could leave the root."""
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


def _check_size(size: int, limit: int, name: str) -> None:
    if size > limit:
        raise ImageError("image_too_large", f"{name}: {size} bytes")


class _Folder:
    def __init__(self, root: Path):
        self._root = root.resolve()

    def read(self, name: str, limit: int) -> bytes | None:
        path = self._root / name
        if os.path.realpath(path) != str(path):
            raise ImageError("image_outside_root", f"{name} is or passes through a link")
        try:
            # a pipe would wait for ever: open without waiting, then look what it is
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ImageError("image_unreadable", f"{name}: {error.strerror}") from None
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise ImageError("image_unreadable", f"{name} is no regular file")
            _check_size(found.st_size, limit, name)
            with os.fdopen(handle, "rb", closefd=False) as stream:
                return stream.read(limit)
        finally:
            os.close(handle)

    def names(self) -> Iterator[str]:
        for folder, below, files in os.walk(self._root):
            below.sort()
            for file in sorted(files):
                yield Path(folder, file).relative_to(self._root).as_posix()


class _Zip:
    def __init__(self, path: Path):
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise UserError(f"{path} is cut off or damaged ({error}); get the file again") from None
        self._prefix = _common_folder(self._zip.namelist())

    def read(self, name: str, limit: int) -> bytes | None:
        member = self._find(name)
        if member is None:
            return None
        if stat.S_ISLNK(member.external_attr >> 16):
            raise ImageError("image_outside_root", f"{name} is a link")
        _check_size(member.file_size, limit, name)
        try:
            return self._zip.read(member)
        except Exception as error:  # encrypted, unknown method, bad checksum: zipfile has no common error
            raise ImageError("image_corrupt", f"{name}: {error}"[:200]) from None

    def _find(self, name: str) -> zipfile.ZipInfo | None:
        for candidate in (name, f"./{name}", self._prefix + name):
            try:
                return self._zip.getinfo(candidate)
            except KeyError:
                continue
        return None

    def names(self) -> Iterator[str]:
        yield from sorted(member.filename for member in self._zip.infolist() if not member.is_dir())


class _Tar:
    """Where each member lies, as three numbers a member: a million images take 24 MB, not a gigabyte."""

    def __init__(self, path: Path):
        self._path = path
        hashes, offsets, sizes = array("Q"), array("Q"), array("q")
        prefix: str | None = None
        for member in tar_members(path):
            if member.isdir():
                continue
            name = member.name.removeprefix("./")
            prefix = _shared_folder(prefix, name)
            hashes.append(_hash(name))
            offsets.append(member.offset_data)
            sizes.append(member.size if is_plain(member) else -1)
        order = sorted(range(len(hashes)), key=hashes.__getitem__)
        self._hashes = array("Q", (hashes[i] for i in order))
        self._offsets = array("Q", (offsets[i] for i in order))
        self._sizes = array("q", (sizes[i] for i in order))
        self._prefix = prefix or ""
        self._handle = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)

    def read(self, name: str, limit: int) -> bytes | None:
        for candidate in {name, self._prefix + name}:
            at = _position(self._hashes, _hash(candidate))
            if at is None:
                continue
            if self._sizes[at] < 0:
                raise ImageError("image_outside_root", f"{name} is a link or no regular file")
            _check_size(self._sizes[at], limit, name)
            return os.pread(self._handle, self._sizes[at], self._offsets[at])
        return None

    def names(self) -> Iterator[str]:
        yield from sorted(member.name.removeprefix("./") for member in tar_members(self._path) if is_plain(member))


class _Tars:
    """All tars under a folder; few are open at once."""

    def __init__(self, root: Path):
        self._root = root
        self._open: OrderedDict[str, _Tar] = OrderedDict()
        self._lock = threading.Lock()  # one thread reads an archive's headers, the others wait for them

    def read(self, name: str, limit: int) -> bytes | None:
        archive, _, member = name.partition(".tar/")
        archive += ".tar"
        with self._lock:
            tar = self._open.get(archive)
            if tar is None:
                tar = self._open[archive] = _Tar(self._root / archive)
                if len(self._open) > _OPEN_TARS:
                    self._open.popitem(last=False)
        return tar.read(member, limit)

    def names(self) -> Iterator[str]:
        for path in sorted(self._root.rglob("*.tar")):
            archive = path.relative_to(self._root).as_posix()
            yield from (f"{archive}/{name}" for name in _Tar(path).names())


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest())


def _position(hashes: array[int], wanted: int) -> int | None:
    """The last member of that name, which is the one a tar means."""
    at = bisect_right(hashes, wanted) - 1
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
