"""Images as text: base64 as tools write it, or a data URL."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote

_WHITESPACE = str.maketrans("", "", "\t\r\n")
_URL_SAFE = str.maketrans("-_", "+/")


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def decoded(text: str) -> bytes:
    """The bytes of base64 text, also in lines, URL-safe or without padding, or of `data:image/...;base64,...`.

    ValueError in one line where it is neither.
    """
    if not is_data_url(text):
        return _base64(text, text)
    head, comma, held = text.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ValueError("image is a data URL without base64; give data:image/png;base64,...")
    return _base64(unquote(held), text)  # a URL may hold %2B for +


def _base64(text: str, shown: str) -> bytes:
    plain = _without_blanks(text.strip().translate(_WHITESPACE)).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        raise ValueError(
            f"image must be base64 text or a data: URL with base64 (paths are not read), got {shown[:40]!r}"
        ) from None


def _without_blanks(text: str) -> str:
    """Blanks between lines of equal length go, as a line break does; any other was a `+` before a form was decoded."""
    lines = text.split(" ")
    of_lines = len({len(line) for line in lines[:-1]}) == 1 and len(lines[0]) % 4 == 0 and len(lines[0]) >= 60
    return "".join(lines) if of_lines else "+".join(lines)
