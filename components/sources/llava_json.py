"""LLaVA's JSON: LAION-CC-SBU 558K, mix665k, and the like with `messages` (docs/data.md).

    {"id": .., "image": "coco/train2017/1.jpg", "conversations": [{"from": "human", "value": ..}, {"from": "gpt", ..}]}
    {"messages": [{"role": "user", "content": ..}, {"role": "assistant", ..}], "images": ["1.jpg"]}

Known warts: no image key (text only), an id that is a number or missing, the marker at the end of its turn,
an image field that is a list, content that is a list of parts, a conversation that is JSON in a column of a table. As
Hugging Face's vision data have it: image parts without a name take the names of `images` in order, or by their `index`;
a name may be {"path": .., "bytes": null}; fields of other kinds of parts, and of other spellings, are null. Image parts
stand before the text and text parts are joined by a blank, as in the template of LLaVA-1.5 there; an image that is sent
again in a later turn stands once. An image may stand under a key of its turn (GLM-4V, Ollama), or in a question as
<img>1.jpg</img> (Qwen-VL).

Text of the role `system` (`developer`), before the first turn or under the key `system`, stands before the first
question: the templates here have a fixed system text. As in LLaVA's code, a conversation that begins with the assistant
is read from the first question on, and a last question without an answer, which has nothing to learn, is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from components.data.parts import joined
from components.data.schema import IMAGE_MARKER, Sample, Turn
from components.data.tasks import CAPTION_QUESTIONS
from components.params import Source
from components.sources.entry import (
    Entry,
    Malformed,
    Reject,
    Split,
    declared_split,
    files_and_splits,
    record_id,
    text_of,
)
from components.sources.record_images import RecordImages, check_medium
from components.sources.records import read_records
from components.sources.unwanted import check_answer, check_record, check_turns

_KEYS = ("messages", "conversations", "conversation")
_SPELLINGS = (("role", "content"), ("from", "value"))  # the keys of a turn's role and text
_ROLES: dict[str, Any] = {"human": "human", "user": "human", "gpt": "assistant", "assistant": "assistant"}
# The other names of FastChat's reader of ShareGPT, and Gemini's.
_ROLES |= dict.fromkeys(("chatgpt", "bing", "bard", "model"), "assistant")
_SYSTEM_ROLES = ("system", "developer")
_MEDIA_PARTS = ("video", "audio", "input_audio")  # how the types of such parts begin
# What others write for <image>: InternVL, Qwen2-VL, Phi and Llama, DeepSeek-VL, XComposer, Gemma, MiniCPM-V and MMMU.
_OTHER_MARKERS = re.compile(
    r"<img>(?:<IMG_CONTEXT>)+</img>|<IMG_CONTEXT>|<IMG>|<\|vision_start\|><\|image_pad\|><\|vision_end\|>|<\|image_pad\|>"
    r"|<\|image(?:_\d+)?\|>|<image_placeholder>|(?:<Img>)?<ImageHere>(?:</Img>)?|<start_of_image>|<image[ _]?\d+>"
)


def read(spec: Source) -> Iterator[Entry | Reject]:
    for path, split in files_and_splits(spec):
        for place, record in read_records(path, _KEYS):
            if isinstance(record, Reject):
                yield record
            elif not isinstance(record, dict):
                yield Reject(place, "record_malformed", f"must be an object, found {type(record).__name__}")
            else:
                yield _entry(record, place, split)


def _entry(record: dict[str, Any], place: str, split: Split | None) -> Entry | Reject:
    id = record_id(record, place)
    try:
        check_record(record)
        images = RecordImages(record)
        turns = _turns(record, images)
        questions = [turn.text for turn in turns if turn.role == "human"]
        image = images.one(questions)
        check_medium(record, questions, image)
        turns = _shown_once(turns, images.times_named)
    except Malformed as error:
        return Reject(id, error.reason, str(error))
    # a text-only record is its own group, the same wherever and under whichever id it stands
    group = image or "text:" + sha256(json.dumps([turn.text for turn in turns]).encode()).hexdigest()
    samples = [Sample(id, _task(turns, image), turns)]
    return Entry(image, f"llava_json:{group}", samples, declared_split(record.get("split")) or split)


def _task(turns: list[Turn], image: str | None) -> str:
    question = turns[0].text.replace(IMAGE_MARKER, "").strip() if turns else ""
    return "caption" if image and len(turns) == 2 and question in CAPTION_QUESTIONS else "chat"


def _turns(record: dict[str, Any], images: RecordImages) -> list[Turn]:
    """Turns from the first question to the last answer; `images` takes those that stand inside them."""
    key, listed = _conversation(record)
    turns, system = list[Turn](), [_system_text(record.get("system"))]
    for number, turn in enumerate(listed):
        if not isinstance(turn, dict):
            raise Malformed(f"{key}[{number}] must be an object, found {type(turn).__name__}")
        role, text = _spelling(turn, key)
        name = text_of(turn, role).lower()
        if name in _SYSTEM_ROLES and not turns:
            system.append(_system_text(turn.get(text)))
            continue
        if name not in _ROLES:
            place = " (system: before the first turn)" if name in _SYSTEM_ROLES else ""
            raise Malformed(f"{key}[{number}].{role} must be one of {', '.join(_ROLES)}, found {name[:40]!r}{place}")
        if _ROLES[name] == "assistant":
            check_answer(turn, f"{key}[{number}]")
        content = _of_parts(turn[text], images) if isinstance(turn.get(text), list) else text_of(turn, text)
        content = _OTHER_MARKERS.sub(IMAGE_MARKER, content)
        turns.append(Turn(_ROLES[name], images.in_turn(turn, content)))
    check_turns(record, turns)
    return _with_system(_trimmed(turns), system)


def _conversation(record: dict[str, Any]) -> tuple[str, list[Any]]:
    """The first key that holds turns, and the turns: a table's columns may be null or empty, or hold JSON."""
    found = {key: value for key in _KEYS if isinstance(value := _decoded(record.get(key)), list)}
    if not found:
        held = ", ".join(record)[:200] or "nothing"
        raise Malformed(f"one of {', '.join(_KEYS)} must be a list of turns; the record has {held}")
    key = next((key for key, turns in found.items() if turns), next(iter(found)))
    return key, found[key]


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _spelling(turn: dict[str, Any], key: str) -> tuple[str, str]:
    """The keys of a turn's role and text: either spelling is found under either key, and a mixture of them."""
    usual = _SPELLINGS[0 if key == "messages" else 1]
    role, text = next((pair for pair in _SPELLINGS if turn.get(pair[0]) is not None), usual)
    if turn.get(text) is None:
        text = next((other for _, other in _SPELLINGS if turn.get(other) is not None), text)
    return role, text


def _system_text(value: Any) -> str:
    parts = value if isinstance(value, list) else [] if value is None else [value]
    texts = [text_of(part, "text") if isinstance(part, dict) else part for part in parts]
    for text in texts:
        if not isinstance(text, str):
            raise Malformed(f"system must be text, found {type(text).__name__}")
    return joined(texts).strip()


def _trimmed(turns: list[Turn]) -> list[Turn]:
    """What LLaVA's code trains on; a conversation without any answer is left to the checks, which name it."""
    roles = [turn.role for turn in turns]
    if roles[:1] == ["assistant"] and "human" in roles:
        turns = turns[1:]
    return turns[:-1] if len(turns) > 1 and turns[-1].role == "human" else turns


def _shown_once(turns: list[Turn], times_named: int) -> list[Turn]:
    """One image that a record names as often as it marks it stands where it is shown first."""
    texts = [turn.text for turn in turns if turn.role == "human"]
    if not 1 < sum(text.count(IMAGE_MARKER) for text in texts) == times_named:
        return turns
    kept, shown = list[Turn](), False
    for turn in turns:
        if turn.role == "human" and IMAGE_MARKER in turn.text:
            before, marker, after = turn.text.partition(IMAGE_MARKER)
            after = re.sub(rf"{IMAGE_MARKER}\n?", "", after).rstrip()
            turn = Turn("human", (before + after).strip() if shown else before + marker + after)
            shown = True
        kept.append(turn)
    return kept


def _with_system(turns: list[Turn], system: list[str]) -> list[Turn]:
    text = "\n\n".join(dict.fromkeys(filter(None, system)))
    if not text or not turns:
        return turns
    return [Turn(turns[0].role, f"{text}\n\n{turns[0].text}"), *turns[1:]]


def _of_parts(parts: list[Any], images: RecordImages) -> str:
    """Content as a list: {"type": "text", "text": ..} and {"type": "image"} or {"type": "image_url"}.

    Also text alone, and parts that have no type but one of these keys, as in Qwen's messages.
    """
    texts, new = list[str](), 0
    for part in parts:
        if isinstance(part, str):
            part = {"type": "text", "text": part}
        if not isinstance(part, dict):
            raise Malformed(f"content part must be an object, found {type(part).__name__}")
        untyped = (key for key in ("text", "image", "image_url", *_MEDIA_PARTS) if part.get(key) is not None)
        kind = text_of(part if part.get("type") is not None else {"type": next(untyped, None)}, "type")
        if kind == "text":
            texts.append(text_of(part, "text"))
        elif kind in ("image", "image_url"):
            new += images.take(part)
        elif kind.startswith(_MEDIA_PARTS):
            raise Malformed(f"a part of type {kind[:40]}", "medium_not_read")
        else:
            raise Malformed(f"content part of type {kind[:40]!r} is not supported")
    text = joined(texts)
    marked = IMAGE_MARKER in text or _OTHER_MARKERS.search(text)
    return text if marked else f"{IMAGE_MARKER}\n" * new + text
