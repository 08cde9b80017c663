"""Bytes of tensors alive, and their peak, on any device: torch has no such counter on CPU.

    with PeakMemory(*model.parameters(), *inputs.values()) as memory:
        loss = model(**inputs)
        loss.backward()
    memory.peak, memory.alive

Every operator's results are watched through weak references to their storages: a storage counts once, however many
views it has, from the operator that made it until nothing holds it. What an operator uses for itself while it runs is
not seen. On the meta device nothing is computed and the count is the same.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Counts while the context is open.

    Args:
        existing: all tensors that exist already and will be used: weights, gradients, moments, inputs. One that is left
            out would count as new when an operator returns it or a view of it.

    Attributes:
        alive: bytes of the tensors that are alive now.
        peak: the most there were at once.
    """

    def __init__(self, *existing: Tensor) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._watched: dict[int, weakref.ref[Any]] = {}
        for tensor in existing:
            self._watch(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self._watch(result)
        elif result is not None:
            for leaf in tree_leaves(result):
                if isinstance(leaf, Tensor):
                    self._watch(leaf)
        return result

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()  # the storage's own address: data_ptr is 0 on meta
        if key in self._watched:
            return

        def forget(_: Any) -> None:
            if self._watched.pop(key, None) is not None:
                self.alive -= size

        self._watched[key] = weakref.ref(storage, forget)
        self.alive += size
        self.peak = max(self.peak, self.alive)
