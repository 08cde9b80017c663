"""A zip or tar of images: names to byte ranges, nothing unpacked, the list of its members on disk and not in memory.

(While a zip is opened, Python's zipfile holds its whole directory: some 600 bytes a member.)
"""

from __future__ import annotations

import re
import sqlite3
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from components.errors import UserError
from components.images.byte_ranges import ByteRange
from components.images.decoding import ImageError
from components.images.endings import has_image_ending, written_ending
from components.images.kinds import HEAD, kind_of
from components.images.names import folded, is_companion, likely_encodings, plain_name, shown, spellings
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
_IN_ZIP64 = 0xFFFF  # for a part's number that stands elsewhere
_ENCRYPTED = 1  # bit of a zip member's flags
_MOST_LINKS = 8  # from one hard link to the next; tar itself writes none to another link
_SAMPLE = 1000  # names in old encodings from which the likely encoding is seen
_LARGEST = 2**63 - 1  # what SQLite holds; more than any file has, less than a damaged zip may say

_UTF8 = 0x800  # bit of a zip member's flags
_UNICODE_NAME = 0x7075  # Info-ZIP's extra field: the name in UTF-8, beside one in the system's own encoding


class Member(NamedTuple):
    """One entry of an archive; a name or target that is bytes stands in an encoding that the archive does not state."""

    name: str | bytes
    problem: str | None  # key of _PROBLEMS; of a hard link it counts where the target is not there
    offset: int  # this and what follows as in ByteRange
    size: int
    packed: int = -1
    method: int = 0
    checksum: int = 0
    target: str | bytes = ""  # of a hard link: the name of an earlier member


class Archive:
    """Members lie in a temporary SQLite database, which goes with this object; 2 MB of it are held in memory.

    Names are held in one form (names.plain_name); what operating systems add beside the user's files is left out.
    """

    def __init__(self, path: Path, members: Callable[[Path], Iterator[Member]]):
        self._path, self._changed = str(path.resolve()), path.stat().st_mtime_ns
        self._top, self._top_of_images = list[bytes](), list[bytes]()  # at most 2 different ones each
        self._old_names = list[bytes]()
        self._endings = set[str]()
        self._list = sqlite3.connect("", check_same_thread=False)  # SQLite's own temporary file
        try:
            self._list.execute(
                "CREATE TABLE member (folded, name, problem, offset, size, packed, method, checksum, target)"
            )
            rows = (row for member in members(path) if (row := self._row(member)) is not None)
            self._list.executemany("INSERT INTO member VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._list.execute("CREATE INDEX by_name ON member (folded)")
            self._list.commit()  # nothing is written afterwards, however full the disk gets
        except sqlite3.OperationalError as error:
            raise UserError(
                f"the list of what is in {path} cannot be written ({error}); let SQLITE_TMPDIR name a folder with space"
            ) from None
        tops = self._top_of_images or self._top
        self._prefix = tops[0] if len(tops) == 1 else b""
        self._encodings = likely_encodings(self._old_names) if self._old_names else []

    def _row(self, member: Member) -> tuple[Any, ...] | None:
        name = _as_bytes(member.name)
        if not name or is_companion(shown(name)):  # nobody can ask for a member without a name
            return None
        if isinstance(member.name, bytes) and len(self._old_names) < _SAMPLE:
            self._old_names.append(name)
        self._endings.add(written_ending(name))
        top = name.partition(b"/")[0] + b"/" if b"/" in name else b""
        for tops in (self._top, self._top_of_images) if has_image_ending(shown(name)) else (self._top,):
            if len(tops) < 2 and top not in tops:
                tops.append(top)
        numbers = (member.offset, member.size, member.packed, member.method, member.checksum)
        capped = (min(number, _LARGEST) for number in numbers)
        return folded(name), name, member.problem, *capped, _as_bytes(member.target)

    def find(self, name: str) -> ByteRange | None:
        """The last member of that name, as unpacking would have it.

        A top folder in which all images lie (where no member has an image's ending: all members) may be left out.
        """
        for candidate in self._candidates(name):
            row = self._followed(candidate)
            if row is None:
                continue
            problem, *numbers = row
            if problem:
                reason, words = _PROBLEMS[problem]
                raise ImageError(reason, f"{name} {words}")
            offset, size, packed, method, checksum = numbers
            return ByteRange(self._path, offset, size, self._changed, packed, method, checksum)
        return None

    def _followed(self, name: bytes) -> tuple[str | None, int, int, int, int, int] | None:
        """Problem and numbers of the last member of that name; a hard link's are those of the member it names.

        That one stands before the link, as unpacking needs it, so that links never go in a circle or out of here.
        """
        before = _LARGEST
        for _ in range(_MOST_LINKS):
            found = self._list.execute(
                "SELECT rowid, target, problem, offset, size, packed, method, checksum FROM member"
                " WHERE folded = ? AND name = ? AND rowid < ? ORDER BY rowid DESC LIMIT 1",
                [folded(name), name, before],
            ).fetchone()
            if found is None:
                return None if before == _LARGEST else ("link", 0, 0, 0, 0, 0)
            before, name, *row = found
            if not name:
                return tuple(row)
        return ("link", 0, 0, 0, 0, 0)

    def endings(self, name: str) -> Collection[str]:
        """The image endings of all members, as they are written."""
        return self._endings

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
        return [
            top + spelling
            for spelling in spellings(plain_name(name), self._encodings)
            for top in dict.fromkeys((b"", self._prefix))
        ]

    def names(self) -> Iterator[str]:
        for (name,) in self._list.execute("SELECT DISTINCT name FROM member ORDER BY name"):
            yield shown(name)


def open_archive(path: Path) -> Archive:
    with path.open("rb") as file:
        kind = kind_of(file.read(HEAD))  # zipfile.is_zipfile looks at the end, where a tar may hold anything
    if kind == "zip":
        return Archive(path, _of_zip)
    if kind == "Git LFS pointer":
        raise UserError(f"{path} is a Git LFS pointer, not the archive itself; run: git lfs pull")
    if kind in _OTHER_ARCHIVES:
        raise UserError(f"{path} is {kind}; images are read from a folder, a zip or a plain tar: unpack it to one")
    if kind is None and (remedy := _joining(path)):  # a later part begins within a member
        raise UserError(remedy)
    return Archive(path, _of_tar)


def _of_tar(path: Path) -> Iterator[Member]:
    for member in tar_members(path):
        if member.isdir():
            continue
        target = _tar_name(member.linkname) if member.islnk() else ""
        problem = None if is_plain(member) else "link"
        yield Member(_tar_name(member.name), problem, member.offset_data, member.size, target=target)


def _tar_name(name: str) -> str | bytes:
    return name if name.isascii() else _text_or_bytes(name.encode(errors="surrogateescape"))


def _of_zip(path: Path) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _ZIP_DAMAGE as error:
        raise UserError(_joining(path) or f"{path} is cut off or damaged ({error}); get the file again") from None
    for member in members:
        if 0 < member.volume < _IN_ZIP64:
            raise UserError(_in_parts(path))
        if member.filename.endswith(("/", "\\")):
            continue
        encrypted = "encrypted" if member.flag_bits & _ENCRYPTED else None
        problem = "link" if stat.S_ISLNK(member.external_attr >> 16) else encrypted
        size, packed, method = member.file_size, member.compress_size, member.compress_type
        yield Member(_zip_name(member), problem, member.header_offset, size, packed, method, member.CRC)


def _joining(path: Path) -> str | None:
    """What to do with a file that is one of a zip's parts by its name: x.zip and x.z02 beside x.z01, or x.zip.001."""
    if re.fullmatch(r"\.zip\.\d{3}", "".join(path.suffixes[-2:])):
        return f"{path} is a part of a zip; join them: cat {path.with_suffix('')}.* > {path.with_suffix('')}"
    named = re.fullmatch(r"\.z(?:ip|\d\d)", path.suffix, re.IGNORECASE)
    return _in_parts(path) if named and path.with_suffix(".z01").exists() else None


def _in_parts(path: Path) -> str:
    return f"{path} is a part of a zip; join them: zip -s 0 {path.with_suffix('.zip')} --out whole.zip"


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


def _as_bytes(name: str | bytes) -> bytes:
    """The form in which names are compared. In some old encodings a backslash is half of a letter."""
    if isinstance(name, bytes):
        return b"/".join(part for part in name.split(b"/") if part not in (b"", b"."))
    return plain_name(name).encode()
