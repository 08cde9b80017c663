"""Prepared rows to batches. The order of samples depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from components.data.conversation import IGNORED, Encoded, Encoder
from components.data.images import decode
from components.data.schema import Row, Sample
from components.data.shards import PreparedRows
from components.errors import UserError
from components.model.vision_input import ImageMode, pixel_values

MAX_PIXELS = 2**31  # rows were checked against data.max_pixels when they were prepared


def split_places(assignments: Path, source: str, split: str) -> list[int]:
    """Numbers of a source's rows that belong to a split, ascending."""
    if not assignments.exists():
        raise UserError(f"{assignments} is missing; run: dvc repro splits")
    table = pq.read_table(assignments, columns=["source", "row", "split"])
    mine = table.filter(pc.and_(pc.equal(table["source"], source), pc.equal(table["split"], split)))  # pyright: ignore
    return sorted(mine["row"].to_pylist())


def split_rows(prepared: Path, assignments: Path, sources: Sequence[str], split: str) -> Iterator[Row]:
    """The rows of a split, source by source."""
    for source in sources:
        rows = PreparedRows(prepared / source)
        for place in split_places(assignments, source, split):
            yield rows[place]


class Samples:
    """All samples of a split as one sequence: [i] -> (row, sample). Only their places are held in memory."""

    def __init__(
        self, prepared: Path, assignments: Path, sources: Sequence[str], tasks: Sequence[str], split: str
    ) -> None:
        self._rows = [PreparedRows(prepared / source) for source in sources]
        places, lengths = [], []
        for number, source in enumerate(sources):
            index = self._rows[number].index
            row_tasks, characters = index["tasks"].to_pylist(), index["characters"].to_pylist()
            for row in split_places(assignments, source, split):
                for position, (task, length) in enumerate(zip(row_tasks[row], characters[row], strict=True)):
                    if not tasks or task in tasks:
                        places.append((number, row, position))
                        lengths.append(length)
        if not places:
            what = f" of tasks {', '.join(tasks)}" if tasks else ""
            raise UserError(f"split {split} of {', '.join(sources)} has no samples{what}; see data/splits/summary.json")
        self._places = np.asarray(places, dtype=np.int64)
        self.lengths = np.asarray(lengths, dtype=np.int64)  # characters, good enough to group by

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> tuple[Row, Sample]:
        source, row, position = self._places[number]
        found = self._rows[source][int(row)]
        return found, found.samples[position]


@dataclass(frozen=True)
class Plan:
    """Which samples make up which optimiser step, for any number of workers."""

    num_samples: int
    global_batch: int
    epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_samples // self.global_batch)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def epoch_of(self, step: int) -> int:
        return step // self.steps_per_epoch

    def batch(self, step: int) -> np.ndarray:
        """Sample numbers of a step (counted from 0); the last batch of an epoch may be smaller."""
        order = np.random.default_rng([self.seed, self.epoch_of(step)]).permutation(self.num_samples)
        start = step % self.steps_per_epoch * self.global_batch
        return order[start : start + self.global_batch]


def deal(batch: np.ndarray, lengths: np.ndarray, rank: int, workers: int, micro_batches: int) -> list[np.ndarray]:
    """One worker's share of a global batch, as `micro_batches` parts, some perhaps empty.

    Samples of like length go together, and at any time all workers hold like lengths.
    """
    by_length = batch[np.argsort(lengths[batch], kind="stable")]
    return np.array_split(by_length, workers * micro_batches)[rank::workers]


@dataclass(frozen=True)
class Batch:
    input_ids: Tensor  # (samples, tokens)
    attention_mask: Tensor  # (samples, tokens), 0 where padded
    labels: Tensor  # (samples, tokens), -100 where there is no loss
    pixel_values: Tensor | None  # (images, 3, height, width), in the order of the samples that have one

    @property
    def num_supervised(self) -> int:
        return int((self.labels[:, 1:] != IGNORED).sum())


class Collator:
    """Reads, encodes and pads samples; counts those that cannot be trained on and leaves them out."""

    def __init__(
        self, samples: Samples, encoder: Encoder, image_processor: Any, mode: ImageMode, max_length: int
    ) -> None:
        self.samples, self.encoder = samples, encoder
        self.image_processor, self.mode, self.max_length = image_processor, mode, max_length
        self.read, self.refused = 0, 0

    def __call__(self, numbers: np.ndarray) -> Batch:
        encoded, images = [], []
        for number in numbers:
            row, sample = self.samples[int(number)]
            has_image = row.image is not None
            tokens = self.encoder.encode(sample.turns, has_image, self.max_length)
            self.read += 1
            if not self.encoder.is_trainable(tokens, has_image):
                self.refused += 1
                continue
            encoded.append(tokens)
            if row.image is not None:
                images.append(decode(row.image, MAX_PIXELS))
        pixels = pixel_values(images, self.image_processor, self.mode) if images else None
        return _pad(encoded, pixels, self.encoder.tokenizer.eos_token_id)


def _pad(encoded: Sequence[Encoded], pixels: Tensor | None, filler: int) -> Batch:
    if not encoded:  # an empty share still takes part in the step, without weight
        encoded = [Encoded([filler, filler], [IGNORED, IGNORED])]
    longest = max(len(one.ids) for one in encoded)
    shape = (len(encoded), longest)
    ids, labels = torch.full(shape, filler), torch.full(shape, IGNORED)
    mask = torch.zeros(shape, dtype=torch.long)
    for place, one in enumerate(encoded):
        length = len(one.ids)
        ids[place, :length] = torch.tensor(one.ids)
        labels[place, :length] = torch.tensor(one.labels)
        mask[place, :length] = 1
    return Batch(ids, mask, labels, pixels)
