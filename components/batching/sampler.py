"""Which samples a step trains on, and which of them a worker. The order depends on (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.data.schema import Row, Sample
from components.data.shards import PreparedRows
from components.errors import UserError


def split_places(assignments: Path, source: str, split: str) -> list[int]:
    """Numbers of a source's rows that belong to a split, ascending."""
    if not assignments.exists():
        raise UserError(f"{assignments} is missing; run: dvc repro splits")
    try:
        table = pq.read_table(assignments, columns=["source", "row", "split"])
        mine = table.filter(pc.and_(pc.equal(table["source"], source), pc.equal(table["split"], split)))  # pyright: ignore
        return sorted(mine["row"].to_pylist())
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(f"{assignments} is damaged ({error}); run: dvc repro --force splits") from None


def split_rows(prepared: Path, assignments: Path, sources: Sequence[str], split: str) -> Iterator[Row]:
    """The rows of a split, source by source."""
    for source in sources:
        rows = PreparedRows(prepared / source)
        for place in split_places(assignments, source, split):
            yield rows[place]


class Samples:
    """All samples of a split as one sequence: [i] -> (row, sample). Only their places are in memory.

    `prepared` is a folder or a URL.
    """

    def __init__(
        self, prepared: Path | str, assignments: Path, sources: Sequence[str], tasks: Sequence[str], split: str
    ) -> None:
        self._rows = [PreparedRows(f"{prepared}/{source}") for source in sources]
        found = [
            _places(self._rows[number], number, np.asarray(split_places(assignments, source, split), np.int64), tasks)
            for number, source in enumerate(sources)
        ]
        self._places = np.concatenate([places for places, _, _ in found])
        if not len(self._places):
            what = f" of tasks {', '.join(tasks)}" if tasks else ""
            raise UserError(f"split {split} of {', '.join(sources)} has no samples{what}; see data/splits/summary.json")
        self.lengths = np.concatenate([lengths for _, lengths, _ in found])  # tokens of the texts
        self.has_image = np.concatenate([images for _, _, images in found])
        new_row = np.any(np.diff(self._places[:, :2], axis=0), axis=1)
        self.starts = np.r_[0, np.flatnonzero(new_row) + 1, len(self._places)]  # of each row's samples, and the end

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> tuple[Row, Sample]:
        source, row, position = self._places[number]
        found = self._rows[source][int(row)]
        return found, found.samples[position]


def _places(
    prepared: PreparedRows, source: int, rows: np.ndarray, tasks: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the samples of `rows` with one of `tasks` (none: all): (source, row, position), tokens, whether an image."""
    index = prepared.columns("tasks", "tokens", "image_hash")
    listed = index["tasks"].combine_chunks()
    ends = np.cumsum(listed.value_lengths().to_numpy(zero_copy_only=False))
    sizes = np.diff(ends, prepend=0)[rows]
    flat = ranges((ends - np.diff(ends, prepend=0))[rows], sizes)  # of each sample, in the index
    places = np.column_stack([np.full(len(flat), source), np.repeat(rows, sizes), ranges(0 * rows, sizes)])
    lengths = index["tokens"].combine_chunks().flatten().to_numpy(zero_copy_only=False)[flat].astype(np.int64)
    images = index["image_hash"].is_valid().to_numpy()[places[:, 1]]
    if tasks:
        wanted = pc.is_in(listed.flatten(), pa.array(tasks, pa.string()))  # pyright: ignore[reportAttributeAccessIssue]
        chosen = wanted.to_numpy(zero_copy_only=False)[flat]
        places, lengths, images = places[chosen], lengths[chosen], images[chosen]
    return places, lengths, images


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1, .. (size of them) for each start, one after the other."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))


class Plan:
    """Which samples make up which optimiser step, for any number of workers.

    Rows are shuffled, samples of one row (one image) stay together: they can share its computation.
    """

    def __init__(self, starts: np.ndarray, global_batch: int, epochs: int, seed: int) -> None:
        self._starts, self._global_batch, self._seed = starts, global_batch, seed
        self.num_samples = int(starts[-1])
        self.steps_per_epoch = -(-self.num_samples // global_batch)
        self.steps = self.steps_per_epoch * epochs
        self.last_batch = self.num_samples - (self.steps_per_epoch - 1) * global_batch
        self._order: tuple[int, np.ndarray] = (-1, starts)  # of the epoch asked for last

    def epoch_of(self, step: int) -> int:
        return step // self.steps_per_epoch

    def batch(self, step: int) -> list[np.ndarray]:
        """The samples of a step (counted from 0), row by row; the last of an epoch holds `last_batch` of them."""
        start = step % self.steps_per_epoch * self._global_batch
        samples = self._epoch(self.epoch_of(step))[start : start + self._global_batch]
        rows = np.searchsorted(self._starts, samples, side="right")
        return np.split(samples, np.flatnonzero(np.diff(rows)) + 1)

    def _epoch(self, epoch: int) -> np.ndarray:
        known, order = self._order  # read once: other threads may ask for another epoch
        if known != epoch:
            rows = np.random.default_rng([self._seed, epoch]).permutation(len(self._starts) - 1)
            order = ranges(self._starts[rows], np.diff(self._starts)[rows])
            self._order = (epoch, order)
        return order


def deal(
    batch: Sequence[np.ndarray],
    lengths: np.ndarray,
    has_image: np.ndarray,
    rank: int,
    workers: int,
    micro_batches: int,
) -> list[list[np.ndarray]]:
    """One worker's share of a global batch, as `micro_batches` parts, some perhaps empty.

    `batch` holds units: samples that become one sequence. Units of one kind (text alone, with an image) and of
    like length go together, parts hold about equally many samples, and at any time all workers hold like parts.
    """
    parts = workers * micro_batches
    by_length = sorted(batch, key=lambda unit: (bool(has_image[unit[0]]), int(lengths[unit].sum())))
    before = np.cumsum([0, *(len(unit) for unit in by_length)])  # samples before each unit
    shares: list[list[np.ndarray]] = [[] for _ in range(parts)]
    for unit, first in zip(by_length, before, strict=False):
        shares[int(first) * parts // int(before[-1])].append(unit)
    return shares[rank::workers]


def alone(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every sample as a unit of its own."""
    return [sample.reshape(1) for unit in batch for sample in unit]
