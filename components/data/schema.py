"""One schema for every source: an image (or none) and the samples that belong to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

IMAGE_MARKER = "<image>"


@dataclass(frozen=True)
class Turn:
    role: Literal["human", "assistant"]
    text: str  # a human text may hold IMAGE_MARKER once, in the first turn


@dataclass(frozen=True)
class Sample:
    """One conversation. `gold` is JSON that a benchmark scores against, where the answer's text is not enough."""

    id: str
    task: str  # ingredients | recipe | nutrition | choice | caption | chat
    turns: list[Turn]
    gold: str | None = None


@dataclass(frozen=True)
class Row:
    """An image, as the bytes it came in, with all its samples; or one text-only sample.

    `group` holds together what must not be divided between splits (photos of one dish).
    `split` is what the publisher declared, if anything.
    """

    group: str
    samples: list[Sample]
    image: bytes | None = None
    image_hash: str | None = None  # SHA-256 of the bytes, hex
    split: Literal["train", "validation", "test"] | None = None
    source: str = field(default="", compare=False)  # known to the reader, not stored


_TURN = pa.struct([("role", pa.string()), ("text", pa.string())])
_SAMPLE = pa.struct([("id", pa.string()), ("task", pa.string()), ("turns", pa.list_(_TURN)), ("gold", pa.string())])
SCHEMA = pa.schema(
    [
        ("group", pa.string()),
        ("image_hash", pa.string()),
        ("image", pa.binary()),
        ("split", pa.string()),
        ("samples", pa.list_(_SAMPLE)),
    ]
)
