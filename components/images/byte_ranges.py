"""Where an image's bytes lie, so that any process can read them without the archive's list of names."""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from components.images.decoding import ImageError

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: signature, .., lengths of its name and extra field
_STORED, _DEFLATED, _BZIP2, _LZMA = 0, 8, 12, 14  # methods of packing in a zip
_OTHER_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "xz", 98: "PPMd", 99: "AES"}
_LZMA_HEADER = struct.Struct("<2xHBI")  # in a zip: version, length of what follows, lc + 9 * (lp + 5 * pb), dictionary


class ByteRange(NamedTuple):
    """`size` bytes at `offset` of a file; in a zip `offset` is where the member's own header starts."""

    path: str
    offset: int
    size: int  # of the image
    changed: int  # when the file was, in nanoseconds: tells an edited file from the one that was checked
    packed: int = -1  # bytes that it takes in a zip; -1: not in a zip
    method: int = _STORED
    checksum: int = 0  # CRC-32, of a zip's member


def read_byte_range(byte_range: ByteRange) -> bytes:
    """The image's bytes; ImageError where the file is gone, no regular file, a link, or a zip that is damaged."""
    name = Path(byte_range.path).name  # where the folder lies is no part of what is written
    try:
        # a pipe would wait for ever: open without waiting, then look what it is
        handle = os.open(byte_range.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        raise ImageError("image_unreadable", f"{name}: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ImageError("image_unreadable", f"{name} is no regular file")
        if byte_range.packed < 0:
            return _read(handle, byte_range.size, byte_range.offset)
        return _unzipped(handle, byte_range)
    except OSError as error:
        raise ImageError("image_unreadable", f"{name}: {error.strerror}") from None
    finally:
        os.close(handle)


def _read(handle: int, size: int, offset: int) -> bytes:
    parts, left = list[bytes](), size
    while left and (part := os.pread(handle, left, offset + size - left)):  # a read may give less than asked for
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _unzipped(handle: int, byte_range: ByteRange) -> bytes:
    header = _read(handle, _LOCAL_HEADER.size, byte_range.offset)
    if len(header) < _LOCAL_HEADER.size:
        raise ImageError("image_corrupt", "the zip ends before it")
    signature, name, extra = _LOCAL_HEADER.unpack(header)
    if signature != b"PK\3\4":
        raise ImageError("image_corrupt", "the zip has no header there")
    data = _read(handle, byte_range.packed, byte_range.offset + _LOCAL_HEADER.size + name + extra)
    try:
        data = _unpacked(data, byte_range.method, byte_range.size)
    except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError, struct.error) as error:
        raise ImageError("image_corrupt", f"in the zip: {error}") from None
    if len(data) != byte_range.size or zlib.crc32(data) != byte_range.checksum:
        raise ImageError("image_corrupt", "in the zip: wrong length or checksum")
    return data


def _unpacked(data: bytes, method: int, size: int) -> bytes:
    """At most one byte more than `size`, whatever the data would unpack to."""
    if method == _STORED:
        return data
    if method == _DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    if method == _BZIP2:
        return bz2.BZ2Decompressor().decompress(data, size + 1)
    if method == _LZMA:
        return _of_lzma(data, size)
    name = _OTHER_METHODS.get(method, f"method {method}")
    raise ImageError("image_unreadable", f"the zip is packed by {name}, which is not read; pack it again: zip -r")


def _of_lzma(data: bytes, size: int) -> bytes:
    _, numbers, dictionary = _LZMA_HEADER.unpack_from(data)
    settings = {
        "id": lzma.FILTER_LZMA1,
        "lc": numbers % 9,
        "lp": numbers // 9 % 5,
        "pb": numbers // 45,
        "dict_size": min(dictionary, max(size, 1 << 12)),  # bytes of memory; none looks back beyond the start
    }
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[settings])
    return unpacker.decompress(data[_LZMA_HEADER.size :], size + 1)
