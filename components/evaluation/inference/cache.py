"""A key-value cache with room to grow: a new token is written into its place instead of copying the whole cache.

transformers' DynamicCache joins old and new by `torch.cat`, at every token and in every layer. With many rows that
have read an image each, this takes longer than the layer itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from components.model.vlora import PerceptualWeights

STEP = 128  # tokens: lengths with room are multiples of it


def with_room(length: int) -> int:
    """Tokens for which a cache that holds `length` has places: one more at least."""
    return (length // STEP + 1) * STEP


class RoomyLayer(DynamicLayer):
    """Keys and values are the filled part, (rows, heads, tokens, head width), of tensors that are longer.

    more: tokens to come, for which there is room from the start.
    """

    whole_keys: torch.Tensor | None = None
    whole_values: torch.Tensor | None = None

    def __init__(self, more: int = 0) -> None:
        super().__init__()
        self._more = more

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self.whole_keys = self.whole_values = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.whole_keys, self.keys = _extended(self.whole_keys, self.keys, key_states, self._more)
        self.whole_values, self.values = _extended(self.whole_values, self.values, value_states, self._more)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.whole_keys = self.whole_values = None

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        super().reorder_cache(beam_idx)  # pyright: ignore[reportArgumentType]  # its stub asks for a LongTensor
        self.whole_keys = self.whole_values = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """The rows are copied once, with their room: for a batch at 7B they are gigabytes."""
        if self.whole_keys is None or self.whole_values is None:
            super().batch_select_indices(indices)
            return
        length = self.get_seq_length()
        self.whole_keys = self.whole_keys.index_select(0, indices)
        self.whole_values = self.whole_values.index_select(0, indices)
        self.keys, self.values = self.whole_keys[:, :, :length], self.whole_values[:, :, :length]


def _extended(
    whole: torch.Tensor | None, filled: torch.Tensor | None, new: torch.Tensor, more: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tensor with room, and what of it is filled once `new` is behind `filled`. None: there is none yet."""
    old = filled if filled is not None and filled.numel() else new[:, :, :0]
    start, end = old.shape[-2], old.shape[-2] + new.shape[-2]
    if whole is None or whole.shape[-2] < end:
        room = with_room(end + more if whole is None else end)
        whole = new.new_empty(*new.shape[:-2], room, new.shape[-1])
        whole[:, :, :start] = old
    whole[:, :, start:end] = new
    return whole, whole[:, :, :end]


def roomy_cache(config: Any, more: int = 0) -> DynamicCache:
    """An empty cache for a model; layers of other kinds (sliding windows, ..) stay transformers' own.

    more: tokens that follow the first to be read.
    """
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(more) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@dataclass
class Prefilled:
    """What the model has read.

    cache: keys and values; mask: (rows, seen), 0 at padding; logits: (rows, vocabulary); weights: under VLoRA, what
    the rows see for as long as they are read on.
    """

    cache: Any
    mask: torch.Tensor
    logits: torch.Tensor
    weights: PerceptualWeights | None

    def keep(self, rows: Sequence[int]) -> None:
        """Choose, reorder or repeat rows."""
        chosen = torch.tensor(rows, device=self.mask.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.logits = self.mask[chosen], self.logits[chosen]
        self.weights = self.weights.choose(chosen) if self.weights else None
