"""Annotation files as text: UTF-8, UTF-16 or UTF-32, plain or compressed, as their first bytes say."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from components.errors import UserError
from components.images.kinds import HEAD, kind_of

READ = "JSON, JSON lines and Parquet (text as UTF-8 or UTF-16, also in gzip, bzip2 or xz)"
_OPENERS: dict[str, Callable[[Any], BinaryIO]] = {
    "gzip": partial(gzip.open, mode="rb"),  # type: ignore[dict-item]
    "bzip2": partial(bz2.open, mode="rb"),  # type: ignore[dict-item]
    "xz": partial(lzma.open, mode="rb"),  # type: ignore[dict-item]
    "lzma": partial(lzma.open, mode="rb"),  # type: ignore[dict-item]
}
MOST_UNPACKED = 1 << 30  # bytes of a file that is read whole; more than published answers have
_MOST_TIMES = 2  # its size may a larger file unpack to: images hardly shrink
_CHUNK = 1 << 20  # bytes unpacked at once
# Kinds whose beginning no text has. Those that begin with plain letters (BM, P6) are not among them.
NO_TEXT = (
    "tar", "zip", "RAR", "7z", "zstd", "lz4", "Arrow", "Arrow stream", "pickle",
    "OLE2 (old Excel or Word)", "HDF5", "SQLite", "NumPy", "program", "PDF", "HTML", "XML",
    "SVG", "PNG", "JPEG", "TIFF", "AVIF", "HEIC", "JPEG 2000", "Photoshop", "Parquet", "Git LFS pointer", *_OPENERS,
)  # fmt: skip
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, UnicodeError)


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """The file's text. UserError where it is of another kind, or damaged, also while it is read inside `with`.

    Bytes that are no UTF-8 come as surrogates, so that the one record that holds them can be named.
    """
    with path.open("rb") as plain:
        packing = kind_of(plain.read(HEAD)) or ""
    opener = _OPENERS.get(packing, lambda path: path.open("rb"))
    try:
        with opener(path) as binary:
            head = binary.read(HEAD)
            binary.seek(0)
            kind = kind_of(head)
            if kind in NO_TEXT:
                inside = f" inside {packing}" if packing in _OPENERS else ""
                raise UserError(f"{path} is {kind}{inside}; {READ} are read")
            encoding = encoding_of(head, kind)
            errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
            with io.TextIOWrapper(binary, encoding=encoding, errors=errors, newline=newline) as stream:
                yield stream
    except _DAMAGE as error:
        raise UserError(f"{path} is cut off or damaged ({error}); get the file again") from None
    except OSError as error:
        if error.errno is None:  # bz2's way to say it
            raise UserError(f"{path} is cut off or damaged ({error}); get the file again") from None
        raise


def unpacked(data: bytes, path: Path) -> bytes:
    """The contents of a packed file, else the bytes as they are.

    UserError where it is cut off or damaged, or holds more than `most_unpacked`.
    """
    packing = kind_of(data[:HEAD]) or ""
    if packing not in _OPENERS:
        return data
    chunks, size, most = [], 0, most_unpacked(len(data))
    try:
        with _OPENERS[packing](io.BytesIO(data)) as stream:
            while chunk := stream.read(_CHUNK):
                size += len(chunk)
                if size > most:
                    raise too_large(path, packing, most, "give the file unpacked")
                chunks.append(chunk)
    except (*_DAMAGE, OSError, ValueError) as error:  # bz2 raises the last two
        raise UserError(f"{path} is cut off or damaged ({error}); get the file again") from None
    return b"".join(chunks)


def most_unpacked(size: int) -> int:
    """Bytes that a file of this size may hold."""
    return max(MOST_UNPACKED, _MOST_TIMES * size)


def too_large(path: Path, kind: str, most: int, remedy: str) -> UserError:
    return UserError(f"{path} is {kind} that holds more than {most / 2**30:.3g} GiB, the most that is read; {remedy}")


def is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return kind_of(file.read(HEAD)) in _OPENERS


def is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return kind_of(file.read(HEAD)) == "Parquet"


def encoding_of(head: bytes, kind: str | None) -> str:
    """By the mark at the start, or by the NULs beside two letters; else UTF-8, perhaps with a mark."""
    if kind in ("UTF-16", "UTF-32"):
        return codecs.lookup(kind).name
    if head[1:2] == b"\0" and (head[:1] in (b"[", b"{") or _is_every_other_nul(head[1:8:2], head[:8:2])):
        return "utf-16-le"  # JSON begins with a bracket
    if head[:1] == b"\0" and (head[1:2] in (b"[", b"{") or _is_every_other_nul(head[:8:2], head[1:8:2])):
        return "utf-16-be"
    return "utf-8-sig"


def _is_every_other_nul(these: bytes, others: bytes) -> bool:
    return len(these) == 4 and not any(these) and all(others)
