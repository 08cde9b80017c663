"""What a file is by its first bytes, whatever its name says: so that a message can name it."""

from __future__ import annotations

HEAD = 512  # bytes that `kind_of` wants to see

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\1\0", "ICO"),
    (b"8BPS", "Photoshop"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"%!PS", "EPS or PostScript"),
    (b"%PDF", "PDF"),
    (b"qoif", "QOI"),
    (b"v/1\1", "OpenEXR"),
    (b"PK\3\4", "zip"),
    (b"PK\5\6", "zip"),
    (b"PK\7\x08", "zip"),  # the first of several parts
    (b"Rar!\x1a\7", "RAR"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"]\0\0", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\4\x22\x4d\x18", "lz4"),
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"\xff\xff\xff\xff", "Arrow stream"),
    (b"\x80\2", "pickle"),
    (b"\x80\3", "pickle"),
    (b"\x80\4", "pickle"),
    (b"\x80\5", "pickle"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLE2 (old Excel or Word)"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"SQLite format 3\0", "SQLite"),
    (b"\x93NUMPY", "NumPy"),
    (b"\x7fELF", "program"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM video"),
    (b"version https://git-lfs.github.com/spec/", "Git LFS pointer"),
)
_BRANDS = {  # of an ISO media file: bytes 8 to 12
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"heim": "HEIC",
    b"heis": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIF",
    b"msf1": "HEIF",
    b"crx ": "Canon raw",
}
_TAR_MARKS = (b"ustar\x0000", b"ustar\0\0\0", b"ustar  \0")  # a text may have "mustard" there
_TEXT_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def kind_of(head: bytes) -> str | None:
    """The name of the kind of file that begins with `head` (HEAD bytes of it), or None where it is not known.

    Plain text that is none of the named kinds, JSON among it, has no name here.
    """
    if head[257:265] in _TAR_MARKS:  # first: a tar begins with its first member's name, which may be anything
        return "tar"
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "AVI video", b"WAVE": "sound"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "MP4 or QuickTime video")
    for mark, name in _TEXT_MARKS:
        if head.startswith(mark):
            return name
    if head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3].isspace():
        return {b"7": "PAM", b"F": "PFM in colour"}.get(head[1:2], "PPM")
    return _markup(head)


def _markup(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "HTML"
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text):
        return "SVG"
    return "XML" if text.startswith(b"<?xml") else None
