"""Prepared sources to batches: the same from a disk and from a URL, by any number of readers, at any position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from components.batching.collator import Batch, Collator
from components.batching.conversation import Encoder
from components.batching.prefetch import ahead
from components.batching.sampler import Plan, Samples, deal
from components.data.shards import PreparedRows
from components.errors import UserError
from components.params import Splits
from components.prepare.splits import assign
from tests.models import tiny_pieces
from tests.raw import RAW, data_settings, prepared

SOURCES = ["unifood", "scienceqa"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prepared sources, one with records without image, and assignments.parquet."""
    folder = tmp_path_factory.mktemp("reading")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEA_HOME", str(folder / "home"))
        for name in SOURCES:
            prepared(name, RAW[name](folder / "raw" / name, 40), data_settings(), folder / "prepared" / name)
    rows = {name: PreparedRows(folder / "prepared" / name) for name in SOURCES}
    table, _ = assign(rows, Splits(validation=0.1, test=0.1), 0)
    pq.write_table(table, folder / "assignments.parquet")
    return folder


def samples_of(folder: Path, prepared: Path | str, tasks: list[str] | None = None) -> Samples:
    return Samples(prepared, folder / "assignments.parquet", SOURCES, tasks or [], "train")


def test_samples_are_those_of_the_split_row_by_row(folder: Path) -> None:
    samples = samples_of(folder, folder / "prepared")
    found = [samples[number] for number in range(len(samples))]
    assert len({(row.source, sample.id) for row, sample in found}) == len(found)
    for start, end in zip(samples.starts[:-1], samples.starts[1:], strict=True):
        rows = [row for row, _ in found[start:end]]
        assert all(row == rows[0] for row in rows)
        assert [sample for _, sample in found[start:end]] == rows[0].samples
    assert [row.image is not None for row, _ in found] == samples.has_image.tolist()
    assert not samples.has_image.all()
    words = [sum(len(turn.text.replace("<image>", "").split()) for turn in sample.turns) for _, sample in found]
    assert np.corrcoef(words, samples.lengths)[0, 1] > 0.9


def test_tasks_choose_samples_and_leave_rows_out(folder: Path) -> None:
    samples = samples_of(folder, folder / "prepared", ["recipe"])
    assert {samples[number][1].task for number in range(len(samples))} == {"recipe"}
    assert np.diff(samples.starts).tolist() == [1] * len(samples)
    with pytest.raises(UserError, match="has no samples of tasks caption"):
        samples_of(folder, folder / "prepared", ["caption"])


def batches(samples: Samples, rank: int, workers: int, start: int = 0, threads: int = 1) -> list[list[Batch]]:
    _, _, tokenizer, processor = tiny_pieces()
    encoder = Encoder(tokenizer, "v1", tokenizer.convert_tokens_to_ids("<image>"), 4)
    collate = Collator(samples, encoder, processor, "pad", 2000)
    plan = Plan(samples.starts, 12, 2, 5)

    def make(step: int) -> list[Batch]:
        shares = deal(plan.batch(step), samples.lengths, samples.has_image, rank, workers, 2)
        return [collate(share) for share in shares]

    return list(ahead(make, range(start, plan.steps), threads))


def same(one: list[list[Batch]], other: list[list[Batch]]) -> bool:
    flat = [(a, b) for xs, ys in zip(one, other, strict=True) for a, b in zip(xs, ys, strict=True)]
    return all(_equal(a, b) for a, b in flat)


def _equal(a: Any, b: Any) -> bool:
    pixels = (a.pixel_values is None) == (b.pixel_values is None) and (
        a.pixel_values is None or torch.equal(a.pixel_values, b.pixel_values)
    )
    return pixels and all(torch.equal(a.tokens[name], b.tokens[name]) for name in a.tokens)


def test_url_gives_the_batches_that_the_disk_gives(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder / "prepared"), "/bucket", recursive=True)
    assert same(
        batches(samples_of(folder, folder / "prepared"), 0, 1), batches(samples_of(folder, "memory://bucket"), 0, 1)
    )
    with pytest.raises(UserError, match=r"memory://nowhere/unifood/manifest\.json is missing"):
        samples_of(folder, "memory://nowhere")


def test_run_that_goes_on_reads_what_the_other_would_have_read(folder: Path) -> None:
    samples = samples_of(folder, folder / "prepared")
    whole = batches(samples, 0, 2)
    for start in (1, 5, len(whole) - 1):
        assert same(whole[start:], batches(samples_of(folder, folder / "prepared"), 0, 2, start))


def test_workers_share_what_one_alone_reads(folder: Path) -> None:
    samples = samples_of(folder, folder / "prepared")
    alone, first, second = batches(samples, 0, 1), batches(samples, 0, 2), batches(samples, 1, 2)
    for step in range(len(alone)):
        read = sum(batch.num_samples for batch in alone[step])
        assert read == sum(batch.num_samples for batch in first[step] + second[step])
        supervised = sum(batch.num_supervised for batch in alone[step])
        assert supervised == sum(batch.num_supervised for batch in first[step] + second[step])
