"""Layers by depth: the language model's blocks in a few bands, so that a deep model reads as easily as a tiny one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

BANDS = 8
Label = Callable[[str], str]  # a layer's full name -> what it is called here


def layer_name(name: str) -> str:
    """`model.language_model.layers.3.self_attn.q_proj` -> `3 q`."""
    found = re.search(r"\blayers?\.(\d+)\.(?:.*\.)?(\w+)$", name)
    return f"{found[1]} {found[2].removesuffix('_proj')}" if found else name


def by_depth(names: Iterable[str]) -> Label:
    """Labels such as `block 3`, or `blocks 4–7` where there are more than BANDS; all layers of a block together."""
    blocks = sorted({number for name in names if (number := _block(name)) is not None})
    bands: dict[int, str] = {}
    size = -(-len(blocks) // BANDS)
    for start in range(0, len(blocks), size or 1):
        band = blocks[start : start + size]
        label = f"block {band[0]}" if len(band) == 1 else f"blocks {band[0]}–{band[-1]}"
        bands |= dict.fromkeys(band, label)

    def label_of(name: str) -> str:
        number = _block(name)
        return layer_name(name) if number is None else bands[number]

    return label_of


def _block(name: str) -> int | None:
    found = re.search(r"\b(?:layers?|blocks?|h)\.(\d+)\b", name)
    return int(found[1]) if found else None
