"""Prepared rows to batches. The order of samples depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from torch import Tensor

from components.data.conversation import IGNORED, Encoded, Encoder
from components.data.images import decode
from components.data.packing import PADDING, Packed, pack, pad
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
        places, lengths, starts = [], [], []
        for number, source in enumerate(sources):
            index = self._rows[number].index
            row_tasks, tokens = index["tasks"].to_pylist(), index["tokens"].to_pylist()
            for row in split_places(assignments, source, split):
                starts.append(len(places))
                for position, (task, length) in enumerate(zip(row_tasks[row], tokens[row], strict=True)):
                    if not tasks or task in tasks:
                        places.append((number, row, position))
                        lengths.append(length)
        if not places:
            what = f" of tasks {', '.join(tasks)}" if tasks else ""
            raise UserError(f"split {split} of {', '.join(sources)} has no samples{what}; see data/splits/summary.json")
        self._places = np.asarray(places, dtype=np.int64)
        self.lengths = np.asarray(lengths, dtype=np.int64)  # tokens of the texts: what batches are grouped by
        self.starts = np.unique(
            np.asarray([*starts, len(places)], dtype=np.int64)
        )  # of each row's samples, and the end

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> tuple[Row, Sample]:
        source, row, position = self._places[number]
        found = self._rows[source][int(row)]
        return found, found.samples[position]


class Plan:
    """Which samples make up which optimiser step, for any number of workers.

    Rows are shuffled, samples of one row (one image) stay together: they can share its computation.
    """

    def __init__(self, starts: np.ndarray, global_batch: int, epochs: int, seed: int) -> None:
        self._starts, self._global_batch, self._seed = starts, global_batch, seed
        self.num_samples = int(starts[-1])
        self.steps_per_epoch = -(-self.num_samples // global_batch)
        self.steps = self.steps_per_epoch * epochs
        self._order: tuple[int, np.ndarray] = (-1, starts)  # of the epoch asked for last

    def epoch_of(self, step: int) -> int:
        return step // self.steps_per_epoch

    def batch(self, step: int) -> list[np.ndarray]:
        """The samples of a step (counted from 0), row by row; the last batch of an epoch may be smaller."""
        start = step % self.steps_per_epoch * self._global_batch
        samples = self._epoch(self.epoch_of(step))[start : start + self._global_batch]
        rows = np.searchsorted(self._starts, samples, side="right")
        return np.split(samples, np.flatnonzero(np.diff(rows)) + 1)

    def _epoch(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            rows = np.random.default_rng([self._seed, epoch]).permutation(len(self._starts) - 1)
            order = [np.arange(int(self._starts[row]), int(self._starts[row + 1])) for row in rows]
            self._order = (epoch, np.concatenate(order))
        return self._order[1]


def deal(
    batch: Sequence[np.ndarray], lengths: np.ndarray, rank: int, workers: int, micro_batches: int
) -> list[list[np.ndarray]]:
    """One worker's share of a global batch, as `micro_batches` parts, some perhaps empty.

    `batch` holds units: samples that become one sequence. Units of like length go together, parts hold about
    equally many samples, and at any time all workers hold parts of like length.
    """
    parts = workers * micro_batches
    by_length = sorted(batch, key=lambda unit: int(lengths[unit].sum()))
    before = np.cumsum([0, *(len(unit) for unit in by_length)])  # samples before each unit
    shares: list[list[np.ndarray]] = [[] for _ in range(parts)]
    for unit, first in zip(by_length, before, strict=False):
        shares[int(first) * parts // int(before[-1])].append(unit)
    return shares[rank::workers]


def alone(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every sample as a unit of its own."""
    return [sample.reshape(1) for unit in batch for sample in unit]


@dataclass(frozen=True)
class Batch:
    """Token tensors are (sequences, tokens); see packing.py."""

    tokens: dict[str, Tensor]  # ids, labels (-100 where there is no loss), positions, segments, previous
    pixel_values: Tensor | None  # (images, 3, height, width), in the order of the sequences that have one
    num_samples: int

    @property
    def num_supervised(self) -> int:
        return int((self.tokens["labels"] != IGNORED).sum())

    @property
    def num_tokens(self) -> int:
        return int((self.tokens["segments"] != PADDING).sum())


class Collator:
    """Reads, encodes, packs and pads samples; counts those that cannot be trained on and leaves them out."""

    def __init__(
        self, samples: Samples, encoder: Encoder, image_processor: Any, mode: ImageMode, max_length: int
    ) -> None:
        self.samples, self.encoder = samples, encoder
        self.image_processor, self.max_length = image_processor, max_length
        self.mode: ImageMode = mode
        self.read, self.refused = 0, 0

    def __call__(self, units: Sequence[np.ndarray]) -> Batch:
        packed, images, num_samples = [], [], 0
        for unit in units:
            encoded, image = self._encoded(unit)
            if encoded:
                packed.append(pack(encoded))
                num_samples += len(encoded)
                if image is not None:
                    images.append(decode(image, MAX_PIXELS))
        filler = self.encoder.tokenizer.eos_token_id
        if not packed:  # an empty share still takes part in the step, without weight
            packed = [Packed([filler], [IGNORED], [0], [1], [0])]
        pixels = pixel_values(images, self.image_processor, self.mode) if images else None
        return Batch(pad(packed, filler), pixels, num_samples)

    def _encoded(self, unit: np.ndarray) -> tuple[list[Encoded], bytes | None]:
        encoded, image = [], None
        for number in unit:
            row, sample = self.samples[int(number)]
            image = row.image
            tokens = self.encoder.encode(sample.turns, image is not None, self.max_length)
            self.read += 1
            if self.encoder.is_trainable(tokens, image is not None):
                encoded.append(tokens)
            else:
                self.refused += 1
        return encoded, image
