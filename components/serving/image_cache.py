"""What the model has read of images that were shown before: a further question about one starts behind it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from components.evaluation.inference.cache import Prefilled
from components.serving.gather import num_bytes


class ImageCache:
    """Images in the order of their last use, up to `max_bytes`; the one that was not used longest goes first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = self.hits = self.misses = 0
        self._held: OrderedDict[Hashable, Prefilled] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._held

    def get(self, key: Hashable) -> Prefilled | None:
        found = self._held.get(key)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
            self._held.move_to_end(key)
        return found

    def put(self, key: Hashable, read: Prefilled) -> None:
        """One row, whose tensors are its own."""
        self._held[key] = read
        self.num_bytes += num_bytes(read)
        while self.num_bytes > self.max_bytes and self._held:
            self.num_bytes -= num_bytes(self._held.popitem(last=False)[1])
