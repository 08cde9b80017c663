"""The images of a record of LLaVA's or Hugging Face's form, listed beside its conversation and sent inside it.

LLaVA's key is `image`, Hugging Face's `images`; where neither has a name and a question shows an image, the key of
another tool is read. Two names are one image where they differ as `1.png` and `./1.png` do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from components.data.schema import IMAGE_MARKER
from components.images.endings import ending_of, has_image_ending
from components.images.names import plain_name
from components.sources.entry import Malformed

_OTHER_KEYS = (  # in small letters; files before addresses, since a record may say where its file came from
    "image", "images", "image_path", "image_paths", "image_file", "image_files", "image_filename", "img_path",
    "img_paths", "img", "imgs", "file_name", "filename", "image_name", "image_id", "picture", "photo", "image_url",
    "image_urls",
)  # fmt: skip
# An image's where the ending says so.
_NOT_ALWAYS = ("file_name", "filename", "image_name", "image_id")
# What stands here with an image's ending is shown even where no question marks it; `photo` may be a portrait.
_SURELY = (
    "image", "images", "image_path", "image_paths", "image_file", "image_files", "image_filename", "img_path",
    "img_paths", "img", "imgs",
)  # fmt: skip
_OF_A_TURN = (*_SURELY, "image_url", "image_urls")
# Qwen-VL's way to name an image inside a question; with a path, since pages have <img>, too.
_TAG = re.compile(r"(?:Picture \d+: ?)?<img>([^<>\s][^<>\n]*)</img>(\n?)")
_MEDIA_KEYS = ("video", "videos", "video_path", "video_url", "audio", "audios", "audio_path", "audio_url")
_MEDIA_MARKERS = ("<video>", "<audio>")
_MARKERS = re.compile("|".join((*_MEDIA_MARKERS, IMAGE_MARKER)))


class RecordImages:
    """The names of a record's images. Malformed where one is no name."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record
        self._listed = _listed(record)
        self._guessed = False
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

    def in_turn(self, turn: Mapping[str, Any], text: str) -> str:
        """The turn's text, with a marker for each image that stands under a key of the turn or in a tag of its text."""
        text = _TAG.sub(self._marker, text)
        names = _first(turn, _OF_A_TURN)
        new = sum(self.take({"image": name}) for name in names)
        return text if IMAGE_MARKER in text else f"{IMAGE_MARKER}\n" * new + text

    def _marker(self, tag: re.Match[str]) -> str:
        name, end = tag[1].strip(), tag[2]
        if not (has_image_ending(name) or re.search(r"[/\\]|^data:", name)):
            return tag[0]
        return IMAGE_MARKER + end if self.take({"image": name}) else ""

    def _next(self, index: Any) -> str:
        if not self._listed:
            self._guess()
        if isinstance(index, int) and 0 <= index < len(self._listed):
            return self._listed[index]
        if index is not None or not self._left:
            raise Malformed("an image part has no name, and images lists none for it")
        return self._left[0]

    @property
    def times_named(self) -> int:
        """How often the record lists images, or sends them inside its turns."""
        return max(len(self._listed), len(self._inside))

    def _guess(self) -> None:
        self._listed, self._guessed = _elsewhere(self._record), True
        self._left = list(self._listed)

    def one(self, questions: Iterable[str]) -> str | None:
        """The image, or None for a record of text alone: its other keys may hold a portrait, a page or a thumbnail."""
        if not self._listed and not self._inside:
            if not any(IMAGE_MARKER in text for text in questions):
                return self._unmarked()
            self._guess()
        names = dict[str, str]()
        # what another tool's key holds beside an image that a part names says where that came from
        left = [] if self._guessed and self._inside else self._left
        for name in left + self._inside:
            names.setdefault(plain_name(name), name)
        if len(names) > 1:
            shown = ", ".join(names.values())[:200]
            raise Malformed(f"{len(names)} images ({shown}); a sample may have one", "image_many")
        return next(iter(names.values()), None)

    def _unmarked(self) -> str | None:
        """A file that the record surely shows, though no question says where."""
        try:
            names = _first({key.lower(): value for key, value in self._record.items()}, _SURELY)
        except Malformed:  # bytes beside a text
            return None
        return next(filter(has_image_ending, names), None)


def check_medium(record: Mapping[str, Any], questions: Iterable[str], image: str | None) -> None:
    """Malformed where the questions are about a video or a sound.

    That is where a marker stands alone on a line, or where a key names a file and there is no image (an image may say
    which video it was taken from) or a line begins with the marker. `<video>` of a page's code has its closing tag.
    """
    lines = [line for text in questions for line in _marked_lines(text)]
    alone = next((line for line in lines if not _MARKERS.sub("", line).strip()), None)
    if alone:
        raise Malformed(alone[:40], "medium_not_read")
    key = next((key for key in _MEDIA_KEYS if _is_medium(record.get(key))), None)
    if key and (image is None or any(line.startswith(_MEDIA_MARKERS) for line in lines)):
        raise Malformed(f"{key} {str(record[key])[:80]}", "medium_not_read")


def _marked_lines(text: str) -> list[str]:
    markers = [marker for marker in _MEDIA_MARKERS if marker in text and marker.replace("<", "</") not in text]
    return [line.strip() for line in text.splitlines() if any(marker in line for marker in markers)]


def _is_medium(value: Any) -> bool:
    """Whether a field names a file (by its ending, or as a URL) or holds one, and is no word such as "none"."""
    if isinstance(value, str):
        return ending_of(value) != "" or "://" in value or value.startswith("data:")
    if isinstance(value, dict):
        return any(_is_medium(value.get(key)) for key in ("path", "url")) or any(map(value.get, ("bytes", "array")))
    return any(map(_is_medium, value)) if isinstance(value, list) else isinstance(value, bytes)


def _listed(record: Mapping[str, Any]) -> list[str]:
    """The names under LLaVA's key and, where their files are called otherwise, those under Hugging Face's."""
    names = _names(record.get("image"))
    if not names:
        return _names(record.get("images"))
    known = set(map(_file, names))
    try:
        return names + [name for name in _names(record.get("images")) if _file(name) not in known]
    except Malformed:  # a number, or the bytes of the image that the name is of
        return names


def _file(name: str) -> str:
    return plain_name(name).rpartition("/")[2]


def _elsewhere(record: Mapping[str, Any]) -> list[str]:
    fields = {key.lower(): value for key, value in record.items()}
    named = {key: fields.get(key) for key in _OTHER_KEYS}
    for key in _NOT_ALWAYS:
        name = named[key]
        if not (isinstance(name, str) and has_image_ending(name)):
            del named[key]
    return _first(named, _OTHER_KEYS)


def _first(fields: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """The names under the first of the keys that holds any."""
    for key in keys:
        try:
            names = _names(fields.get(key))
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
    if isinstance(value, dict) and value and all(key.startswith("<image") for key in value):
        value = [name for name in value.values() if name is not None]  # MiniCPM-V: {"<image_00>": name, ..}
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
