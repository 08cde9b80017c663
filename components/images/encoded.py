"""Images as text: base64 as tools write it, or a data URL."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote

_SHORTEST_LINE = 60  # characters: tools write 64 or 76, and always whole groups of 4
# What tools escape in base64: all that is no letter and no digit.
_ESCAPES = {f"%{case(f'{ord(c):02X}')}": c for c in "+/=-_\n\r\t " for case in (str.upper, str.lower)}
_LONG, _CRUMB = 1_000_000, 16  # characters: of a text whose pieces are counted, and of the shortest pieces on average
_MOST_ESCAPES = 1000  # of other characters
_URL_SAFE = str.maketrans("-_", "+/")


def is_data_url(text: str) -> bool:
    return text.lstrip()[:5].lower() == "data:"


def decoded(text: str) -> bytes:
    """The bytes of base64 text (in lines, indented, URL-safe, without padding) or of `data:image/...;base64,...`.

    ValueError in one line where it is neither.
    """
    if not is_data_url(text):
        return _base64(text, text)
    head, comma, held = text.partition(",")
    if not comma or not head.replace(" ", "").lower().endswith(";base64"):
        raise ValueError("image is a data URL without base64; give data:image/png;base64,...")
    return _base64(_unquoted(held), text)


def _unquoted(text: str) -> str:
    """A URL may hold %2B for +, and so on. `unquote` makes an object of each escape: 2 GB of 20 MB of them."""
    for escape, character in _ESCAPES.items():
        text = text.replace(escape, character)
    return unquote(text) if 0 < text.count("%") <= _MOST_ESCAPES else text


def _base64(text: str, shown: str) -> bytes:
    if _is_crumbled(text, "\n") or _is_crumbled(text, "\r"):
        raise ValueError(f"image is base64 in lines of fewer than {_CRUMB} characters; send longer lines, or one")
    plain = _without_breaks(text).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        raise ValueError(
            f"image must be base64 text or a data: URL with base64 (paths are not read), got {shown[:40]!r}"
        ) from None


def _without_breaks(text: str) -> str:
    """One line of base64. A blank was a `+` before a form was decoded, unless it stands between or beside lines.

    Blanks that could be either stay, and are refused: the picture would be another one.
    """
    lines = [line for line in text.strip().replace("\t", "").replace("\r", "\n").split("\n") if line.strip()]
    if len(lines) < 2:
        return _without_blanks("".join(lines))
    inside = "".join(line.strip(" ") for line in lines)
    if " " in inside and _are_lines(lines):
        return "".join(lines).replace(" ", "+")
    return inside


def _is_crumbled(text: str, border: str) -> bool:
    """Whether a long text has so many borders that its pieces, an object each, would take 20 times its memory."""
    return len(text) > _LONG and text.count(border) * _CRUMB > len(text)


def _without_blanks(text: str) -> str:
    """Blanks in place of line breaks, so between lines of equal length, go; any other was a `+`."""
    if _is_crumbled(text, " "):
        return text.replace(" ", "+")
    lines = [line for line in text.split(" ") if line]
    joined, with_plus = "".join(lines), text.replace(" ", "+")
    whole = len(joined) % 4 == 0 or len(with_plus) % 4 != 0
    return joined if _are_lines(lines) and whole else with_plus


def _are_lines(lines: list[str]) -> bool:
    """All but the last have the same length, as a tool that breaks lines leaves them."""
    lengths = {len(line) for line in lines[:-1]}
    return len(lengths) == 1 and min(lengths) % 4 == 0 and min(lengths) >= _SHORTEST_LINE
