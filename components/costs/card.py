"""Whether a card holds a training, and what would make it fit.

A card has less than it is sold with: an H100 of 80 GiB gives about 78 to programs. And a program needs more than the
tensors that are alive at once: the allocator keeps pieces that nothing fits into. Both are left free here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from components.params import Training

USABLE = 0.975  # of the memory that a card is sold with
MARGIN = 0.05  # of what is needed, for the allocator's pieces

# Bytes per GPU of the longest samples: (settings, micro-batch) -> total
Needed = Callable[[Training, int], int]


def usable(card: float) -> float:
    """Bytes of a card of `card` bytes that a plan may fill."""
    return USABLE * card / (1 + MARGIN)


def largest_micro_batch(training: Training, needed: Needed, card: float) -> int | None:
    """The largest micro-batch up to the one that is set whose longest samples fit; None where not even one does."""
    sizes = {training.micro_batch, *(2**power for power in range(training.micro_batch.bit_length()))}
    fitting = [n for n in sizes if n <= training.micro_batch and needed(training, n) <= usable(card)]
    return max(fitting, default=None)


def remedies(training: Training, needed: Needed, card: float) -> list[dict[str, Any]]:
    """Settings under which the longest samples fit, each by itself; empty where they fit already, or never will.

    None of them changes what is learnt: activations that are computed again cost about a third more time, a smaller
    micro-batch a little, ZeRO 3 traffic between the GPUs.
    """
    if needed(training, training.micro_batch) <= usable(card):
        return []
    changes: list[dict[str, Any]] = [{}]
    if not training.activation_checkpointing:
        changes.append({"activation_checkpointing": True})
    if training.zero_stage < 3 and training.workers > 1 and not training.compile_blocks:
        changes.append({"zero_stage": 3})
    if len(changes) == 3:
        changes.append({**changes[1], **changes[2]})
    found = []
    for change in changes:
        varied = training.model_copy(update=change)
        micro_batch = largest_micro_batch(varied, needed, card)
        if micro_batch is None:
            continue
        settings = {**change, **({"micro_batch": micro_batch} if micro_batch != training.micro_batch else {})}
        found.append({"settings": settings, "total": needed(varied, micro_batch)})
    whole = [one for one in found if "micro_batch" not in one["settings"]]
    simple = [one for one in found if len(one["settings"]) == 1]
    return simple or whole[:1] or found[:1]
