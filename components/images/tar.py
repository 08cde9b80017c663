"""Members of a plain tar in file order, with nothing kept in memory and damage named, not skipped."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from components.errors import UserError
from components.images.kinds import HEAD, kind_of

_BLOCK = 512
_COMPRESSIONS = ("gzip", "bzip2", "xz", "zstd")


def tar_members(path: Path) -> Iterator[tarfile.TarInfo]:
    """Headers only. `offset_data` and `size` say where a regular file's bytes lie.

    Python's tarfile takes a damaged header after the first for the end: here the end mark is looked at.
    """
    with path.open("rb") as raw:
        kind = kind_of(raw.read(HEAD))
        if kind in _COMPRESSIONS:
            raise UserError(f"{path} is compressed with {kind}; images are read at any place: unpack it to a plain tar")
        raw.seek(0)
        try:
            with tarfile.open(fileobj=raw, mode="r:") as archive:
                while member := archive.next():
                    if member.size < 0:  # tarfile would go back and read it again, for ever
                        raise ValueError(f"{member.name[:80]} has {member.size} bytes")
                    archive.members = []  # type: ignore[attr-defined]  # it would keep all headers
                    yield member
                end = archive.offset  # type: ignore[attr-defined]
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise UserError(f"{path} is cut off or damaged ({error}); get the file again") from None
        raw.seek(end)
        mark = raw.read(_BLOCK)
        if len(mark) < _BLOCK or any(mark) or any(raw.read(1 << 20)):
            raise UserError(f"{path} is cut off or damaged after byte {end}; get the file again")


def is_plain(member: tarfile.TarInfo) -> bool:
    """A regular file whose bytes stand in one piece: no link, folder, device or sparse file."""
    return member.isreg() and member.sparse is None  # type: ignore[attr-defined]
