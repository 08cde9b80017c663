"""A zip or tar of images: names to byte ranges, nothing unpacked, the list of its members on disk and not in memory.

(While a zip is opened, Python's zipfile holds its whole directory: some 600 bytes a member.)
"""

from __future__ import annotations

import sqlite3
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from components.errors import UserError
from components.images.byte_ranges import ByteRange
from components.images.decoding import ImageError
from components.images.kinds import HEAD, kind_of
from components.images.names import folded, is_companion, plain_name, shown, spellings
from components.images.tar import is_plain, tar_members

_PROBLEMS = {
    "link": ("image_outside_root", "is a link or no regular file"),
    "encrypted": ("image_unreadable", "is encrypted"),
}
_OTHER_ARCHIVES = (
    "RAR",
    "7z",
    "lz4",
    "Parquet",
    "Arrow",
    "HDF5",
    "NumPy",
    "PDF",
    "HTML",
    "XML",
    "SQLite",
    "JPEG",
    "PNG",
    "AVIF",
    "HEIC",
)
_ZIP_DAMAGE = (  # what zipfile raises where a directory was cut off or altered
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    OSError,
    OverflowError,
    struct.error,
)
_ENCRYPTED = 1  # bit of a zip member's flags
_LARGEST = 2**63 - 1  # what SQLite holds; more than any file has, less than a damaged zip may say

_UTF8 = 0x800  # bit of a zip member's flags
_UNICODE_NAME = 0x7075  # Info-ZIP's extra field: the name in UTF-8, beside one in the system's own encoding

# name (bytes: in an encoding that the archive does not state), key of _PROBLEMS or None, then ByteRange's offset,
# size, packed, method, checksum
Member = tuple[str | bytes, str | None, int, int, int, int, int]


class Archive:
    """Members lie in a temporary SQLite database, which goes with this object; 2 MB of it are held in memory.

    Names are held in one form (names.plain_name); what operating systems add beside the user's files is left out.
    """

    def __init__(self, path: Path, members: Callable[[Path], Iterator[Member]]):
        self._path, self._changed = str(path.resolve()), path.stat().st_mtime_ns
        self._prefix: bytes | None = None
        self._list = sqlite3.connect("", check_same_thread=False)  # SQLite's own temporary file
        try:
            self._list.execute("CREATE TABLE member (folded, name, problem, offset, size, packed, method, checksum)")
            rows = (row for member in members(path) if (row := self._row(member)) is not None)
            self._list.executemany("INSERT INTO member VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._list.execute("CREATE INDEX by_name ON member (folded)")
            self._list.commit()  # nothing is written afterwards, however full the disk gets
        except sqlite3.OperationalError as error:
            raise UserError(
                f"the list of what is in {path} cannot be written ({error}); let SQLITE_TMPDIR name a folder with space"
            ) from None

    def _row(self, member: Member) -> tuple[bytes, bytes, str | None, int, int, int, int, int] | None:
        name, problem, *numbers = member
        if is_companion(shown(name) if isinstance(name, bytes) else name):
            return None
        name = name if isinstance(name, bytes) else plain_name(name).encode()
        if not name:  # nobody can ask for it
            return None
        top = name.partition(b"/")[0] + b"/" if b"/" in name else b""
        self._prefix = top if self._prefix in (None, top) else b""
        offset, size, packed, method, checksum = (min(number, _LARGEST) for number in numbers)
        return folded(name), name, problem, offset, size, packed, method, checksum

    def find(self, name: str) -> ByteRange | None:
        """The last member of that name, as unpacking would have it. One top folder of all names may be left out."""
        for candidate in self._candidates(name):
            row = self._list.execute(
                "SELECT problem, offset, size, packed, method, checksum FROM member WHERE folded = ? AND name = ?"
                " ORDER BY rowid DESC LIMIT 1",
                [folded(candidate), candidate],
            ).fetchone()
            if row is None:
                continue
            problem, offset, size, packed, method, checksum = row
            if problem:
                reason, words = _PROBLEMS[problem]
                raise ImageError(reason, f"{name} {words}")
            return ByteRange(self._path, offset, size, self._changed, packed, method, checksum)
        return None

    def similar(self, name: str) -> str | None:
        """A member whose name differs from this one in capitals alone."""
        for candidate in self._candidates(name):
            row = self._list.execute(
                "SELECT name FROM member WHERE folded = ? ORDER BY name LIMIT 1", [folded(candidate)]
            ).fetchone()
            if row is not None:
                return shown(row[0])
        return None

    def _candidates(self, name: str) -> list[bytes]:
        return [top + spelling for spelling in spellings(name) for top in dict.fromkeys((b"", self._prefix or b""))]

    def names(self) -> Iterator[str]:
        for (name,) in self._list.execute("SELECT DISTINCT name FROM member ORDER BY name"):
            yield shown(name)


def open_archive(path: Path) -> Archive:
    with path.open("rb") as file:
        kind = kind_of(file.read(HEAD))  # zipfile.is_zipfile looks at the end, where a tar may hold anything
    if kind == "zip":
        return Archive(path, _of_zip)
    if kind in _OTHER_ARCHIVES:
        raise UserError(f"{path} is {kind}; images are read from a folder, a zip or a plain tar: unpack it to one")
    return Archive(path, _of_tar)


def _of_tar(path: Path) -> Iterator[Member]:
    for member in tar_members(path):
        if not member.isdir():
            name = (
                member.name if member.name.isascii() else _text_or_bytes(member.name.encode(errors="surrogateescape"))
            )
            yield name, None if is_plain(member) else "link", member.offset_data, member.size, -1, 0, 0


def _of_zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _ZIP_DAMAGE as error:
        raise UserError(f"{path} is cut off or damaged ({error}); get the file again") from None
    for member in members:
        if member.filename.endswith(("/", "\\")):
            continue
        encrypted = "encrypted" if member.flag_bits & _ENCRYPTED else None
        problem = "link" if stat.S_ISLNK(member.external_attr >> 16) else encrypted
        size, packed, method = member.file_size, member.compress_size, member.compress_type
        yield _zip_name(member), problem, member.header_offset, size, packed, method, member.CRC


def _zip_name(member: zipfile.ZipInfo) -> str | bytes:
    """Where the flag for UTF-8 is not set zipfile reads cp437, but macOS writes UTF-8 and Windows its own code page."""
    if member.flag_bits & _UTF8 or member.filename.isascii():
        return member.filename
    raw = member.filename.encode("cp437")
    extra = member.extra
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_NAME and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return _text_or_bytes(field[5:])
    return _text_or_bytes(raw)


def _text_or_bytes(name: bytes) -> str | bytes:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name
