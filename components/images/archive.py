"""A zip or tar of images: names to byte ranges, nothing unpacked, the list of its members on disk and not in memory.

(While a zip is opened, Python's zipfile holds its whole directory: some 600 bytes a member.)
"""

from __future__ import annotations

import sqlite3
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from components.errors import UserError
from components.images.byte_ranges import ByteRange
from components.images.decoding import ImageError
from components.images.tar import is_plain, tar_members

_PROBLEMS = {
    "link": ("image_outside_root", "is a link or no regular file"),
    "encrypted": ("image_unreadable", "is encrypted"),
}
_ZIP = (b"PK\3\4", b"PK\5\6")  # how one begins, the second where it is empty
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

# name, key of _PROBLEMS or None, then ByteRange's offset, size, packed, method, checksum
Member = tuple[str, str | None, int, int, int, int, int]


class Archive:
    """Members lie in a temporary SQLite database, which goes with this object; 2 MB of it are held in memory."""

    def __init__(self, path: Path, members: Callable[[Path], Iterator[Member]]):
        self._path, self._changed = str(path.resolve()), path.stat().st_mtime_ns
        self._prefix: str | None = None
        self._list = sqlite3.connect("", check_same_thread=False)  # SQLite's own temporary file
        try:
            self._list.execute("CREATE TABLE member (name BLOB, problem, offset, size, packed, method, checksum)")
            self._list.executemany("INSERT INTO member VALUES (?, ?, ?, ?, ?, ?, ?)", map(self._row, members(path)))
            self._list.execute("CREATE INDEX by_name ON member (name)")
            self._list.commit()  # nothing is written afterwards, however full the disk gets
        except sqlite3.OperationalError as error:
            raise UserError(
                f"the list of what is in {path} cannot be written ({error}); let SQLITE_TMPDIR name a folder with space"
            ) from None

    def _row(self, member: Member) -> tuple[bytes, str | None, int, int, int, int, int]:
        name, problem, *numbers = member
        name = name.removeprefix("./")
        top = name.partition("/")[0] + "/" if "/" in name else ""
        self._prefix = top if self._prefix in (None, top) else ""
        offset, size, packed, method, checksum = (min(number, _LARGEST) for number in numbers)
        return name.encode(errors="surrogateescape"), problem, offset, size, packed, method, checksum

    def find(self, name: str) -> ByteRange | None:
        """The last member of that name, as unpacking would have it. One top folder of all names may be left out."""
        for candidate in dict.fromkeys((name, (self._prefix or "") + name)):
            row = self._list.execute(
                "SELECT problem, offset, size, packed, method, checksum FROM member WHERE name = ?"
                " ORDER BY rowid DESC LIMIT 1",
                [candidate.encode()],
            ).fetchone()
            if row is None:
                continue
            problem, offset, size, packed, method, checksum = row
            if problem:
                reason, words = _PROBLEMS[problem]
                raise ImageError(reason, f"{name} {words}")
            return ByteRange(self._path, offset, size, self._changed, packed, method, checksum)
        return None

    def names(self) -> Iterator[str]:
        for (name,) in self._list.execute("SELECT DISTINCT name FROM member ORDER BY name"):
            yield name.decode(errors="surrogateescape")


def open_archive(path: Path) -> Archive:
    with path.open("rb") as file:
        begins = file.read(4)  # zipfile.is_zipfile looks at the end, where a tar's last members may hold anything
    return Archive(path, _of_zip if begins in _ZIP else _of_tar)


def _of_tar(path: Path) -> Iterator[Member]:
    for member in tar_members(path):
        if not member.isdir():
            yield member.name, None if is_plain(member) else "link", member.offset_data, member.size, -1, 0, 0


def _of_zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _ZIP_DAMAGE as error:
        raise UserError(f"{path} is cut off or damaged ({error}); get the file again") from None
    for member in members:
        if member.is_dir():
            continue
        encrypted = "encrypted" if member.flag_bits & _ENCRYPTED else None
        problem = "link" if stat.S_ISLNK(member.external_attr >> 16) else encrypted
        size, packed, method = member.file_size, member.compress_size, member.compress_type
        yield member.filename, problem, member.header_offset, size, packed, method, member.CRC
