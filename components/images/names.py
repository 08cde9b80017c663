"""Names of files as different systems spell them: separators, forms of Unicode, old encodings, companion files."""

from __future__ import annotations

import unicodedata

# What systems put beside a user's files: resource forks and caches of thumbnails.
_COMPANION_FOLDERS = ("__MACOSX", "@eaDir", ".Spotlight-V100", ".Trashes")
_COMPANION_FILES = (".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini")
# In which archives and disks hold names that are no UTF-8; cp437 first, since it is the zip format's own.
_OLD_ENCODINGS = (
    "cp437", "cp850", "cp1252", "cp1250", "cp1251", "cp866", "koi8-r", "gbk", "big5", "cp932", "euc-jp", "cp949",
)  # fmt: skip


def is_companion(name: str) -> bool:
    """A file that the operating system wrote beside the user's own."""
    *folders, file = name.replace("\\", "/").split("/")
    return file.startswith("._") or file.lower() in _COMPANION_FILES or any(f in _COMPANION_FOLDERS for f in folders)


def plain_name(name: str) -> str:
    """Composed Unicode (NFC), `/` between the parts, no empty parts and no `.`."""
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def folded(name: bytes) -> bytes:
    """Equal for names that differ in capitals alone; a name that is no UTF-8 stays as it is."""
    try:
        return name.decode().casefold().encode()
    except UnicodeDecodeError:
        return name


def spellings(name: str) -> list[bytes]:
    """The bytes under which a file of that name may lie: as given, composed, decomposed, in old encodings."""
    forms = [name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]
    found = [form.encode() for form in forms]
    if not name.isascii():
        for encoding in _OLD_ENCODINGS:
            try:
                found.append(forms[1].encode(encoding))
            except UnicodeEncodeError:
                continue
    return list(dict.fromkeys(found))


def shown(name: bytes) -> str:
    """A stored name as text; one in an old encoding as cp437 has it, which `spellings` leads back to these bytes."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")
