"""What a worker keeps from one run to the next: the base, the prepared data, batches, and what the frozen tower sees.

All of it is a function of inputs that the runs share, so that a run which finds it ready learns the same, to the bit:

    base       read once; each run gets modules of its own around the frozen weights
    samples    the index of a split
    batches    under their samples: runs with one seed go through the same ones in the same order
    features   hidden states of the vision tower, under the pixels of a whole batch (another batch rounds otherwise)

Batches and features are of one seed, the latest, and end at a number of bytes: what comes first is kept, for a run
goes through all of them in turn. On GPUs memory is dear and no features are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from components.batching.collator import Batch, Collator
from components.batching.sampler import Samples
from components.model.base import Base, load_base
from components.model.own_modules import with_own_modules
from components.model.vision_tower import remember_features
from components.training.job import Job

BASE_BYTES = 4_000_000_000  # of a base that is kept: a larger one is read again, little beside what it is trained for
Collate = Callable[[Sequence[np.ndarray]], Batch]


class Kept:
    """`most_bytes` of batches and features are kept; 0: nothing at all, as a run alone needs it."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self.num_bytes, self._seed = most_bytes, 0, -1
        self._base: Base | None = None
        self._base_digest = ""
        self._samples: dict[Any, Samples] = {}
        self._batches: dict[Any, Batch] = {}
        self._features: dict[bytes, dict[int, Tensor]] = {}

    def turn_to(self, seed: int) -> None:
        """Forget what only runs of another seed would meet again."""
        if seed != self._seed:
            self._batches, self._features, self.num_bytes, self._seed = {}, {}, 0, seed

    def base(self, job: Job) -> Base:
        """The base, with modules that the run may change."""
        if job.inputs["base"] != self._base_digest:
            self._base, self._base_digest, self._features = None, job.inputs["base"], {}
        if self._base is None:
            base = load_base(job.base)
            if not self._most_bytes or sum(p.nbytes for p in base.model.parameters()) > BASE_BYTES:
                return base
            self._base = base
        return with_own_modules(self._base, job.trains_language_model)

    def samples(self, job: Job, split: str) -> Samples:
        recipe = job.recipe
        key = (job.inputs["splits"], tuple(job.sources.items()), job.prepared, tuple(recipe.tasks), split)
        if key not in self._samples:
            found = Samples(job.prepared, job.assignments, recipe.sources, recipe.tasks, split)
            if not self._most_bytes:
                return found
            self._samples[key] = found
        return self._samples[key]

    def collated(self, collate: Collator, job: Job) -> Collate:
        """The collator, asked once for each batch."""
        if not self._most_bytes:
            return collate
        settings = (job.inputs["base"], id(collate.samples), *collate.settings)

        def ready(units: Sequence[np.ndarray]) -> Batch:
            key = (*settings, tuple(unit.tobytes() for unit in units))
            batch = self._batches.get(key)
            if batch is None:
                batch = collate(units)
                pixels = [] if batch.pixel_values is None else [batch.pixel_values]
                if self.has_room([*batch.tokens.values(), *pixels]):
                    self._batches[key] = batch
            return batch

        return ready

    def remember_features(self, model: Any) -> None:
        """Let the model's tower look up what it has computed."""
        if self._most_bytes:
            remember_features(model, self._features, self.has_room)

    def has_room(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these tensors may be kept; they are counted if so."""
        size = sum(tensor.nbytes for tensor in tensors)
        if self.num_bytes + size > self._most_bytes:
            return False
        self.num_bytes += size
        return True
