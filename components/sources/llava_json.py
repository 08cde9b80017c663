"""LLaVA's JSON: LAION-CC-SBU 558K, mix665k, and the like with `messages` (FACTS of the formats: README).

    {"id": .., "image": "coco/train2017/1.jpg", "conversations": [{"from": "human", "value": ..}, {"from": "gpt", ..}]}
    {"messages": [{"role": "user", "content": ..}, {"role": "assistant", ..}], "images": ["1.jpg"]}

Known warts: no image key (text only), an id that is a number or missing, the marker at the end of its turn,
an image field that is a list, content that is a list of parts, an empty system turn at the start.
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
        for place, record in read_records(path):
            if isinstance(record, Reject):
                yield record
            elif not isinstance(record, dict):
                yield Reject(place, "record_malformed", f"must be an object, found {type(record).__name__}")
            else:
                yield _entry(record, place)


def _entry(record: dict[str, Any], place: str) -> Entry | Reject:
    id = record_id(record, place)
    try:
        turns, in_turns = _turns(record)
        images = _images(record) + in_turns
        if len(images) > 1:
            return Reject(id, "image_many", f"{len(images)} images; a sample may have one")
    except Malformed as error:
        return Reject(id, "record_malformed", str(error))
    image = images[0] if images else None
    # a text-only record is its own group, the same wherever and under whichever id it stands
    group = image or "text:" + sha256(json.dumps([turn.text for turn in turns]).encode()).hexdigest()
    return Entry(image, f"llava_json:{group}", [Sample(id, _task(turns, image), turns)])


def _task(turns: list[Turn], image: str | None) -> str:
    question = turns[0].text.replace(IMAGE_MARKER, "").strip() if turns else ""
    return "caption" if image and len(turns) == 2 and question in CAPTION_QUESTIONS else "chat"


def _images(record: dict[str, Any]) -> list[str]:
    found = record.get("image") or record.get("images") or []
    names = found if isinstance(found, list) else [found]
    for name in names:
        if not isinstance(name, str):
            raise Malformed(f"image must be a name, found {type(name).__name__}")
    return names


def _turns(record: dict[str, Any]) -> tuple[list[Turn], list[str]]:
    """Turns, and the images that stand inside them."""
    key, role, text = ("messages", "role", "content") if "messages" in record else ("conversations", "from", "value")
    listed = record.get(key)
    if not isinstance(listed, list):
        raise Malformed(f"{key} must be a list, found {type(listed).__name__}")
    turns, images = [], []
    for number, turn in enumerate(listed):
        if not isinstance(turn, dict):
            raise Malformed(f"{key}[{number}] must be an object, found {type(turn).__name__}")
        name = text_of(turn, role)
        if name == "system" and number == 0 and turn.get(text) in ("", None):
            continue
        if name not in _ROLES:
            raise Malformed(f"{key}[{number}].{role} must be one of {', '.join(_ROLES)}, found {name[:40]!r}")
        if isinstance(turn.get(text), list):
            content, inside = _of_parts(turn[text])
            images += inside
        else:
            content = text_of(turn, text)
        for marker in _OTHER_MARKERS:
            content = content.replace(marker, IMAGE_MARKER)
        turns.append(Turn(_ROLES[name], content))
    return turns, images


def _of_parts(parts: list[Any]) -> tuple[str, list[str]]:
    """Content as a list: {"type": "text", "text": ..} and {"type": "image_url", "image_url": {"url": ..}}."""
    texts, images = [], []
    for part in parts:
        if not isinstance(part, dict):
            raise Malformed(f"content part must be an object, found {type(part).__name__}")
        kind = text_of(part, "type")
        if kind == "text":
            texts.append(text_of(part, "text"))
        elif kind in ("image", "image_url"):
            images.append(text_of(part[kind], "url") if isinstance(part.get(kind), dict) else text_of(part, kind))
        else:
            raise Malformed(f"content part of type {kind[:40]!r} is not supported")
    text = "".join(texts)
    marked = any(marker in text for marker in (IMAGE_MARKER, *_OTHER_MARKERS))
    return (text if marked else f"{IMAGE_MARKER}\n" * len(images) + text), images
