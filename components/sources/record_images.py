"""The images of a record of LLaVA's or Hugging Face's form, listed beside its conversation and sent inside it.

LLaVA's key is `image`, Hugging Face's `images`; where neither has a name, the key of another tool is read. Two names
are one image where they differ as `1.png` and `./1.png` do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from components.data.schema import Turn
from components.images.names import plain_name
from components.sources.entry import Malformed

_OTHER_KEYS = (  # in small letters; files before addresses, since a record may say where its file came from
    "image", "images", "image_path", "image_paths", "image_file", "image_files", "image_filename", "img_path",
    "img_paths", "img", "imgs", "file_name", "filename", "image_name", "image_id", "picture", "photo", "image_url",
    "image_urls",
)  # fmt: skip
# An image's where the ending says so.
_NOT_ALWAYS = ("file_name", "filename", "image_name", "image_id")
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".avif")
_OTHER_MEDIA = ("video", "videos", "video_path", "video_url", "audio", "audios", "audio_path", "audio_url")
_MEDIA_MARKERS = ("<video>", "<audio>")


class RecordImages:
    """The names of a record's images. Malformed where one is no name."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._listed = _listed(record)
        self._guessed = not self._listed
        if self._guessed:
            self._listed = _elsewhere(record)
        self._left = list(self._listed)
        self._inside = list[str]()

    def take(self, part: Mapping[str, Any]) -> bool:
        """Take the image of a part of a turn; whether it is sent for the first time."""
        named = [value for key in ("image", "image_url", "path", "url") if (value := part.get(key)) not in (None, "")]
        name = _name(named[0]) if named else self._next(part.get("index"))
        plain = plain_name(name)
        listed = [plain_name(each) for each in self._left]
        if plain in listed:
            del self._left[listed.index(plain)]
        new = plain not in map(plain_name, self._inside)
        self._inside.append(name)
        return new

    def _next(self, index: Any) -> str:
        if isinstance(index, int) and 0 <= index < len(self._listed):
            return self._listed[index]
        if index is not None or not self._left:
            raise Malformed("an image part has no name, and images lists none for it")
        return self._left[0]

    def one(self) -> str | None:
        """The image, or None for a record of text alone."""
        names = dict[str, str]()
        # what another tool's key holds beside an image that a part names says where that came from
        left = [] if self._guessed and self._inside else self._left
        for name in left + self._inside:
            names.setdefault(plain_name(name), name)
        if len(names) > 1:
            shown = ", ".join(names.values())[:200]
            raise Malformed(f"{len(names)} images ({shown}); a sample may have one", "image_many")
        return next(iter(names.values()), None)


def check_medium(record: Mapping[str, Any], turns: Sequence[Turn], image: str | None) -> None:
    """Malformed where the questions are about a video or a sound; an image may say which video it was taken from."""
    key = next((key for key in _OTHER_MEDIA if record.get(key)), None)
    texts = [turn.text for turn in turns if turn.role == "human"]
    marked = any(marker in text for text in texts for marker in _MEDIA_MARKERS)
    if key and (image is None or marked):
        raise Malformed(f"{key} {str(record[key])[:80]}", "medium_not_read")
    if image is None and texts and texts[0].lstrip().startswith(_MEDIA_MARKERS):
        raise Malformed(texts[0].lstrip()[:40], "medium_not_read")


def _listed(record: Mapping[str, Any]) -> list[str]:
    """The names under LLaVA's key and, where they are others, those under Hugging Face's."""
    names = _names(record.get("image"))
    if not names:
        return _names(record.get("images"))
    known = set(map(plain_name, names))
    try:
        return names + [name for name in _names(record.get("images")) if plain_name(name) not in known]
    except Malformed:  # a number, or the bytes of the image that the name is of
        return names


def _elsewhere(record: Mapping[str, Any]) -> list[str]:
    fields = {key.lower(): value for key, value in record.items()}
    for key in _OTHER_KEYS:
        value = fields.get(key)
        if key in _NOT_ALWAYS and not (isinstance(value, str) and PurePosixPath(value).suffix.lower() in _ENDINGS):
            continue
        try:
            names = _names(value)
        except Malformed as error:
            if error.reason == "image_in_record":
                raise
            continue  # a number, a flag, or what else a field of that name holds
        if names:
            return names
    return []


def _names(value: Any) -> list[str]:
    return [_name(each) for each in _values(value)]


def _values(value: Any) -> list[Any]:
    """What a field lists, also as JSON in a table; one value as a list, and nothing for an empty field."""
    if isinstance(value, str) and value.lstrip().startswith('["'):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]  # a name that begins so
    return value if isinstance(value, list) else [value] if value else []


def _name(value: Any) -> str:
    """A name, {"url": name} or {"path": name, "bytes": null}."""
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            raise Malformed("the bytes of the image", "image_in_record")
        value = value.get("path") if value.get("path") is not None else value.get("url")
    if isinstance(value, bytes):
        raise Malformed("the bytes of the image", "image_in_record")
    if not isinstance(value, str):
        raise Malformed(f"image must be a name, found {type(value).__name__}")
    return value
