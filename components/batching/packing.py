"""Shared-prefix batches: samples of one image become one sequence, so that the image is computed once.

    position   0 1 2 3 4 5 6 7 | 5 6 7 8 | 5 6 7
    token      S S I I I I Q Q   q a a .   q a .
    segment    0 0 0 0 0 1 1 1 | 2 2 2 2 | 3 3 3      0: the prefix that all branches share
    previous   - 0 1 2 3 4 5 6   4 8 9 .   4 . .      where the token before stands

A branch sees the prefix and itself, never another branch, and its positions go on where the prefix ends. The
prefix is causal, so that loss and gradients equal those of the separate samples. A sample alone is a sequence
with one branch: there is one path, shared or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from components.batching.conversation import IGNORED, Encoded
from components.batching.tree import PADDING, shared_length

if TYPE_CHECKING:
    from jaxtyping import Int

LENGTHS_ON_GPUS = 64  # tokens; batches are filled up to a multiple: each new length costs a GPU plans and memory


@dataclass(frozen=True)
class Packed:
    """Samples of one image as one sequence; lists of equal length."""

    ids: list[int]
    labels: list[int]  # at the labelled token itself; the place that must predict it is `previous`
    positions: list[int]
    segments: list[int]
    previous: list[int]


def pack(samples: Sequence[Encoded]) -> Packed:
    """Join samples at their longest common prefix that holds no label."""
    prefix = shared_length([s.ids for s in samples], [s.labels for s in samples]) if len(samples) > 1 else 0
    first = samples[0]
    ids, labels = first.ids[:prefix], first.labels[:prefix]
    positions, segments, previous = list(range(prefix)), [0] * prefix, [max(0, n - 1) for n in range(prefix)]
    for branch, sample in enumerate(samples, start=1):
        start, length = len(ids), len(sample.ids) - prefix
        ids += sample.ids[prefix:]
        labels += sample.labels[prefix:]
        positions += range(prefix, prefix + length)
        segments += [branch] * length
        previous += [max(0, prefix - 1), *range(start, start + length - 1)]
    return Packed(ids, labels, positions, segments, previous)


def pad(sequences: Sequence[Packed], filler: int, multiple: int = 1) -> dict[str, Int[Tensor, "sequences tokens"]]:
    """A tensor for each list of Packed, filled up at the right to a multiple of `multiple`.

    Padding sees itself alone and has no label: losses and gradients do not depend on how much of it there is.
    """
    fillers = {"ids": filler, "labels": IGNORED, "positions": 0, "segments": PADDING, "previous": 0}
    longest = -(-max(len(sequence.ids) for sequence in sequences) // multiple) * multiple
    padded = {}
    for name, value in fillers.items():
        padded[name] = torch.full((len(sequences), longest), value)
        for row, sequence in enumerate(sequences):
            values = getattr(sequence, name)
            padded[name][row, : len(values)] = torch.tensor(values)
    return padded


def tree_block_mask(segments: Int[Tensor, "sequences tokens"]) -> Any:
    """tree.py's mask for flex attention, which skips the blocks of the mask where nothing is seen."""
    from torch.nn.attention.flex_attention import create_block_mask

    def seen(sequence: Tensor, head: Tensor, here: Tensor, there: Tensor) -> Tensor:
        theirs, mine = segments[sequence, there], segments[sequence, here]
        visible = (there <= here) & ((theirs == 0) | (theirs == mine)) & (theirs != PADDING)
        return visible | (here == there)

    sequences, size = segments.shape
    return create_block_mask(seen, sequences, None, size, size, device=str(segments.device))
