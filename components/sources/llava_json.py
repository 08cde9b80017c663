"""LLaVA's JSON: LAION-CC-SBU 558K, mix665k, and the like with `messages` (docs/data.md).

    {"id": .., "image": "coco/train2017/1.jpg", "conversations": [{"from": "human", "value": ..}, {"from": "gpt", ..}]}
    {"messages": [{"role": "user", "content": ..}, {"role": "assistant", ..}], "images": ["1.jpg"]}

Known warts: no image key (text only), an id that is a number or missing, the marker at the end of its turn,
an image field that is a list, content that is a list of parts. As Hugging Face's vision data have it: image parts
without a name take the names of `images` in order, or by their `index`; a name may be {"path": .., "bytes": null};
fields of other kinds of parts are null. Image parts stand before the text, as in the template of LLaVA-1.5 there.

Text of the role `system`, as a first turn or under the key `system`, stands before the first question: the templates
here have a fixed system text. As in LLaVA's code, a conversation that begins with the assistant is read from the
first question on, and a last question without an answer, which has nothing to learn, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from components.data.schema import IMAGE_MARKER, Sample, Turn
from components.data.tasks import CAPTION_QUESTIONS
from components.params import Source
from components.sources.entry import Entry, Malformed, Reject, annotation_files, record_id, text_of
from components.sources.records import read_records

_ROLES: dict[str, Any] = {"human": "human", "user": "human", "gpt": "assistant", "assistant": "assistant"}
_OTHER_MARKERS = ("<IMG_CONTEXT>",)


def read(spec: Source) -> Iterator[Entry | Reject]:
    for path in annotation_files(spec):
        for place, record in read_records(path, ("conversations", "messages")):
            if isinstance(record, Reject):
                yield record
            elif not isinstance(record, dict):
                yield Reject(place, "record_malformed", f"must be an object, found {type(record).__name__}")
            else:
                yield _entry(record, place)


def _entry(record: dict[str, Any], place: str) -> Entry | Reject:
    id = record_id(record, place)
    try:
        names = _Names(record)
        turns = _turns(record, names)
    except Malformed as error:
        return Reject(id, error.reason, str(error))
    images = names.all()
    if len(images) > 1:
        return Reject(id, "image_many", f"{len(images)} images; a sample may have one")
    image = images[0] if images else None
    # a text-only record is its own group, the same wherever and under whichever id it stands
    group = image or "text:" + sha256(json.dumps([turn.text for turn in turns]).encode()).hexdigest()
    return Entry(image, f"llava_json:{group}", [Sample(id, _task(turns, image), turns)])


def _task(turns: list[Turn], image: str | None) -> str:
    question = turns[0].text.replace(IMAGE_MARKER, "").strip() if turns else ""
    return "caption" if image and len(turns) == 2 and question in CAPTION_QUESTIONS else "chat"


class _Names:
    """The images of a record: those listed beside the conversation, and those named inside it."""

    def __init__(self, record: dict[str, Any]):
        found = record.get("image") or record.get("images") or []
        self._listed = [_image_name(value) for value in (found if isinstance(found, list) else [found])]
        self._left = list(self._listed)
        self._inside = list[str]()

    def take(self, part: dict[str, Any]) -> None:
        """The image of a part of a turn. A name that is listed too is one image, not two."""
        values = [value for key in ("image", "image_url", "path", "url") if (value := part.get(key)) is not None]
        name = _image_name(values[0]) if values else self._next(part.get("index"))
        if name in self._left:
            self._left.remove(name)
        self._inside.append(name)

    def _next(self, index: Any) -> str:
        if isinstance(index, int) and 0 <= index < len(self._listed):
            return self._listed[index]
        if index is not None or not self._left:
            raise Malformed("an image part has no name, and images lists none for it")
        return self._left[0]

    def all(self) -> list[str]:
        return self._left + self._inside


def _image_name(value: Any) -> str:
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


def _turns(record: dict[str, Any], names: _Names) -> list[Turn]:
    """Turns from the first question to the last answer; `names` takes the images that stand inside them."""
    key = "messages" if "messages" in record else "conversations"
    listed = record.get(key)
    if not isinstance(listed, list):
        raise Malformed(f"{key} must be a list, found {type(listed).__name__}")
    role, text = _spelling(listed, key)
    turns, system = list[Turn](), [_system_text(record.get("system"))]
    for number, turn in enumerate(listed):
        if not isinstance(turn, dict):
            raise Malformed(f"{key}[{number}] must be an object, found {type(turn).__name__}")
        name = text_of(turn, role)
        if name == "system" and number == 0:
            system.append(_system_text(turn.get(text)))
            continue
        if name not in _ROLES:
            raise Malformed(f"{key}[{number}].{role} must be one of {', '.join(_ROLES)}, found {name[:40]!r}")
        content = _of_parts(turn[text], names) if isinstance(turn.get(text), list) else text_of(turn, text)
        for marker in _OTHER_MARKERS:
            content = content.replace(marker, IMAGE_MARKER)
        turns.append(Turn(_ROLES[name], content))
    return _with_system(_trimmed(turns), system)


def _spelling(turns: list[Any], key: str) -> tuple[str, str]:
    """The keys of a turn's role and text; either pair is found under either key of the conversation."""
    first = turns[0] if turns and isinstance(turns[0], dict) else {}
    openai = "role" in first or (key == "messages" and "from" not in first)
    return ("role", "content") if openai else ("from", "value")


def _system_text(value: Any) -> str:
    if isinstance(value, list):
        value = "".join(text_of(part, "text") if isinstance(part, dict) else "" for part in value)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"system must be text, found {type(value).__name__}")
    return (value or "").strip()


def _trimmed(turns: list[Turn]) -> list[Turn]:
    """What LLaVA's code trains on; a conversation without any answer is left to the checks, which name it."""
    roles = [turn.role for turn in turns]
    if roles[:1] == ["assistant"] and "human" in roles:
        turns = turns[1:]
    return turns[:-1] if len(turns) > 1 and turns[-1].role == "human" else turns


def _with_system(turns: list[Turn], system: list[str]) -> list[Turn]:
    text = "\n\n".join(dict.fromkeys(filter(None, system)))
    if not text or not turns:
        return turns
    return [Turn(turns[0].role, f"{text}\n\n{turns[0].text}"), *turns[1:]]


def _of_parts(parts: list[Any], names: _Names) -> str:
    """Content as a list: {"type": "text", "text": ..} and {"type": "image"} or {"type": "image_url"}."""
    texts, images = [], 0
    for part in parts:
        if not isinstance(part, dict):
            raise Malformed(f"content part must be an object, found {type(part).__name__}")
        kind = text_of(part, "type")
        if kind == "text":
            texts.append(text_of(part, "text"))
        elif kind in ("image", "image_url"):
            names.take(part)
            images += 1
        else:
            raise Malformed(f"content part of type {kind[:40]!r} is not supported")
    text = "".join(texts)
    marked = any(marker in text for marker in (IMAGE_MARKER, *_OTHER_MARKERS))
    return text if marked else f"{IMAGE_MARKER}\n" * images + text
