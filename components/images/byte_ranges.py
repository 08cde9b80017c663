"""Where an image's bytes lie, so that any process can read them without the archive's list of names."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from typing import NamedTuple

from components.images.decoding import ImageError

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: signature, .., lengths of its name and extra field
_STORED, _DEFLATED = 0, 8


class Extent(NamedTuple):
    """`size` bytes at `offset` of a file; in a zip `offset` is where the member's own header starts."""

    path: str
    offset: int
    size: int  # of the image
    changed: int  # when the file was, in nanoseconds: tells an edited file from the one that was checked
    packed: int = -1  # bytes that it takes in a zip; -1: not in a zip
    method: int = _STORED
    checksum: int = 0  # CRC-32, of a zip's member


def read_extent(extent: Extent) -> bytes:
    """The image's bytes; ImageError where the file is gone, no regular file, a link, or a zip that is damaged."""
    try:
        # a pipe would wait for ever: open without waiting, then look what it is
        handle = os.open(extent.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise ImageError("image_unreadable", f"{extent.path}: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ImageError("image_unreadable", f"{extent.path} is no regular file")
        if extent.packed < 0:
            return _read(handle, extent.size, extent.offset)
        return _unzipped(handle, extent)
    except OSError as error:
        raise ImageError("image_unreadable", f"{extent.path}: {error.strerror}") from None
    finally:
        os.close(handle)


def _read(handle: int, size: int, offset: int) -> bytes:
    parts, left = list[bytes](), size
    while left and (part := os.pread(handle, left, offset + size - left)):  # a read may give less than asked for
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _unzipped(handle: int, extent: Extent) -> bytes:
    header = _read(handle, _LOCAL_HEADER.size, extent.offset)
    if len(header) < _LOCAL_HEADER.size:
        raise ImageError("image_corrupt", "the zip ends before it")
    signature, name, extra = _LOCAL_HEADER.unpack(header)
    if signature != b"PK\3\4":
        raise ImageError("image_corrupt", "the zip has no header there")
    data = _read(handle, extent.packed, extent.offset + _LOCAL_HEADER.size + name + extra)
    if extent.method == _DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, extent.size + 1)
        except zlib.error as error:
            raise ImageError("image_corrupt", f"in the zip: {error}") from None
    elif extent.method != _STORED:
        raise ImageError("image_corrupt", f"packed by method {extent.method}, only stored and deflated are read")
    if len(data) != extent.size or zlib.crc32(data) != extent.checksum:
        raise ImageError("image_corrupt", "in the zip: wrong length or checksum")
    return data
