"""Images of a benchmark's table: in the row as base64, in another row whose index stands there, or a file's name."""

from __future__ import annotations

from collections.abc import Mapping

from components.images.encoded import decoded, is_data_url
from components.images.endings import ending_of

_INDEX = 64  # characters; a longer text is an image or a file's name
_LONGEST_PATH = 1024
_NONE = ("", "nan", "none")

Table = Mapping[str, Mapping[str, str]]  # index -> row


def image_text(row: Mapping[str, str]) -> str:
    """What the column `image` holds, empty where that is nothing."""
    text = row.get("image", "").strip()
    return "" if text.lower() in _NONE else text


def image_of(row: Mapping[str, str], rows: Table) -> tuple[bytes | None, str | None]:
    """The image itself, or else its file's name; neither where the row has none or what it has cannot be read."""
    text = image_text(row)
    other = rows.get(text.removesuffix(".0")) if 0 < len(text) <= _INDEX else None
    row, text = (row, text) if other is None else (other, image_text(other))
    image = _decoded(text) if len(text) > _INDEX else None
    if image is not None:
        return image, None
    names = (row.get("image_path", "").strip(), text)
    return None, next((name for name in names if _may_be_a_name(name)), None)


def _decoded(text: str) -> bytes | None:
    try:
        return decoded(text)
    except ValueError:  # no base64: perhaps a name
        return None


def _may_be_a_name(text: str) -> bool:
    return len(text) <= _LONGEST_PATH and ending_of(text) != "" and not is_data_url(text)
