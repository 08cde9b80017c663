"""A source cut into chunks, one shard each: the same cut however many workers make them.

    records 0 .. 1 . 2 ... | 3 .. 4 ..... 5 | 6 .        a chunk ends once its images and texts hold shard_bytes

The cut looks at sizes alone, before anything is read, so records that are appended leave earlier chunks as
they are. A chunk's key stands for all that its shard is made from: a finished one is found again by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from components.images.store import ImageStore
from components.prepare.checks import Located, locate
from components.sources.entry import Entry, Reject

_MOST_ITEMS = 2_000  # of a chunk: bounds the texts in memory
_SAMPLES_PER_ROW = 64


@dataclass(frozen=True)
class Chunk:
    number: int
    items: list[Located | Reject]
    size: int  # bytes of images and characters of texts
    key: str


def chunks(entries: Iterable[Entry | Reject], store: ImageStore, shard_bytes: int) -> Iterator[Chunk]:
    """Cut what a reader yields."""
    number, size, items, key = 0, 0, list[Located | Reject](), hashlib.sha256()
    for entry in _merged(entries):
        item = entry if isinstance(entry, Reject) else locate(entry, store)
        items.append(item)
        text, characters = _plain(item)
        key.update(text.encode())
        size += characters + (item.image.size if isinstance(item, Located) and item.image else 0)
        if size >= shard_bytes or len(items) >= _MOST_ITEMS:
            yield Chunk(number, items, size, key.hexdigest())
            number, size, items, key = number + 1, 0, [], hashlib.sha256()
    if items:
        yield Chunk(number, items, size, key.hexdigest())


def _plain(item: Located | Reject) -> tuple[str, int]:
    """An item as text that differs where the item does, and how long it is."""
    if isinstance(item, Reject):
        text = json.dumps([item.id, item.reason, item.detail, item.expected])
        return text, len(text)
    entry = item.entry
    samples = [[s.id, s.task, s.gold, [[turn.role, turn.text] for turn in s.turns]] for s in entry.samples]
    text = json.dumps([entry.image, entry.group, entry.split, samples, item.image, item.problem])
    return text, len(text)


def _merged(entries: Iterable[Entry | Reject]) -> Iterator[Entry | Reject]:
    """Neighbouring entries about one image become one, so that the image is read and stored once."""
    held: Entry | None = None
    for entry in entries:
        if isinstance(entry, Reject):
            yield entry
        elif held and _one_row(held, entry):
            held = replace(held, samples=held.samples + entry.samples)
        else:
            if held:
                yield held
            held = entry
    if held:
        yield held


def _one_row(one: Entry, other: Entry) -> bool:
    same = one.image is not None and (one.image, one.group, one.split) == (other.image, other.group, other.split)
    return same and len(one.samples) + len(other.samples) <= _SAMPLES_PER_ROW
