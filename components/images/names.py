"""Names of files as different systems spell them: separators, forms of Unicode, old encodings, companion files."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# What systems put beside a user's files: resource forks and caches of thumbnails.
_COMPANION_FOLDERS = ("__MACOSX", "@eaDir", ".Spotlight-V100", ".Trashes")
_COMPANION_FILES = (".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini")
# In which archives and disks hold names that are no UTF-8; cp437 first, since it is the zip format's own. Then the code
# pages of Windows and DOS by region, and those of macOS.
OLD_ENCODINGS = (
    "cp437", "cp850", "cp1252", "cp1250", "cp1251", "cp866", "koi8-r", "gbk", "big5", "cp932", "euc-jp", "cp949",
    "cp852", "iso8859-2", "cp855", "cp737", "cp1253", "cp869", "cp857", "cp1254", "cp862", "cp1255", "cp864", "cp720",
    "cp1256", "cp874", "cp1258", "cp775", "cp1257", "cp860", "cp861", "cp863", "cp865", "mac-roman", "mac-latin2",
    "mac-cyrillic", "mac-greek", "mac-turkish",
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


def spellings(name: str, encodings: Sequence[str] = OLD_ENCODINGS) -> list[bytes]:
    """The bytes under which a file of that name may lie: as given, composed, decomposed, in old encodings."""
    forms = [name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]
    found = [form.encode() for form in forms]
    if not name.isascii():
        for encoding in encodings:
            try:
                found.append(forms[1].encode(encoding))
            except UnicodeEncodeError:
                continue
    return list(dict.fromkeys(found))


def likely_encodings(names: Sequence[bytes]) -> list[str]:
    """The old encodings, those first in which most of these names are words; cp437, as `shown` reads them, before all.

    The same bytes are "š" in one code page and "ç" in another: what is asked for is looked up in the likely one first.
    """
    return sorted(
        OLD_ENCODINGS,
        key=lambda encoding: (encoding != OLD_ENCODINGS[0], -sum(_is_words(name, encoding) for name in names)),
    )


def _is_words(name: bytes, encoding: str) -> bool:
    try:
        text = name.decode(encoding)
    except UnicodeDecodeError:
        return False
    return all(letter.isascii() or unicodedata.category(letter)[0] in "LMN" for letter in text)


def shown(name: bytes) -> str:
    """A stored name as text; one in an old encoding as cp437 has it, which `spellings` leads back to these bytes."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")
