"""Rows come back as they went in, from any place, in any process."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.schema import Row
from components.data.shards import PreparedRows, ShardWriter
from components.data.tasks import caption_sample, ingredients_sample
from components.errors import UserError
from components.files import write_json
from tests.data.raw import picture


def rows(number: int) -> list[Row]:
    """Every fourth is text only; images of 2 kB."""
    made = []
    for i in range(number):
        samples = [caption_sample(f"{i}#{k}", f"caption {k} ä") for k in range(1 + i % 3)]
        samples.append(ingredients_sample(f"{i}/i", ["rice"]))
        image = None if i % 4 == 3 else picture(i) + bytes(2000)
        made.append(
            Row(f"group:{i // 2}", samples, image, f"hash{i}" if image else None, "test" if i % 5 == 0 else None)
        )
    return made


def write(folder: Path, made: list[Row], per_shard: int = 200) -> PreparedRows:
    folder.mkdir()
    shards, indexes = [], []
    for start in range(0, len(made), per_shard):
        index = folder / f"index-{start}.parquet"
        writer = ShardWriter(folder / f"shard-{start // per_shard:05}.parquet", index)
        for row in made[start : start + per_shard]:
            writer.add(row, [len(sample.turns[1].text.split()) for sample in row.samples])
        shards.append(writer.close())
        indexes.append(pq.read_table(index))
    pq.write_table(pa.concat_tables(indexes), folder / "index.parquet")
    write_json(folder / "manifest.json", {"shards": shards})
    return PreparedRows(folder)


def test_rows_come_back_in_any_order(tmp_path):
    made = rows(700)
    read = write(tmp_path / "unifood", made)
    assert len(read) == 700
    assert len(read.manifest["shards"]) > 2
    for number in (699, 0, 350, 351, 1, 698, 2, 0):
        assert read[number] == made[number]
        assert read[number].source == "unifood"
    assert list(read) == made
    for number in (-1, 700):
        with pytest.raises(IndexError):
            read[number]


def test_index_holds_light_columns_of_every_row(tmp_path):
    made = rows(300)
    index = write(tmp_path / "a", made).index
    assert index.schema.names == ["group", "image_hash", "split", "ids", "tasks", "tokens"]
    assert index["group"].to_pylist() == [row.group for row in made]
    assert index["ids"].to_pylist() == [[sample.id for sample in row.samples] for row in made]
    assert index["tokens"].to_pylist()[7] == [3, 3, 4]


def test_same_rows_give_the_same_bytes(tmp_path):
    one, two = (write(tmp_path / name, rows(600)) for name in ("a", "b"))
    assert one.manifest == two.manifest
    assert len(one.manifest["shards"]) == 3


def test_no_row_is_no_shard(tmp_path):
    assert ShardWriter(tmp_path / "shard.parquet", tmp_path / "index.parquet").close() is None
    assert [path.name for path in tmp_path.iterdir()] == ["index.parquet"]
    assert len(pq.read_table(tmp_path / "index.parquet")) == 0


def test_cache_of_row_groups_is_bounded(tmp_path):
    write(tmp_path / "a", rows(700))
    read = PreparedRows(tmp_path / "a", cached_groups=2)
    assert len(list(read)) == 700
    assert len(read._groups) == 2


def test_images_are_stored_uncompressed_in_small_groups(tmp_path):
    write(tmp_path / "a", rows(700))
    file = pq.ParquetFile(tmp_path / "a/shard-00000.parquet")
    group = file.metadata.row_group(0)
    codecs = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert codecs["image"] == "UNCOMPRESSED"
    assert codecs["samples.list.element.turns.list.element.text"] == "ZSTD"
    assert group.total_byte_size < 400_000


def test_reader_survives_pickling_and_forking(tmp_path):
    made = rows(100)
    read = write(tmp_path / "a", made)
    assert read[50] == made[50]
    copy = pickle.loads(pickle.dumps(read))
    assert copy[51] == made[51]
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=lambda: send.send(read[99].group))
    child.start()
    assert receive.recv() == made[99].group
    child.join()


def test_folder_that_is_not_prepared_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json is missing; run: dvc repro prepare"):
        PreparedRows(tmp_path)


def test_damaged_shard_is_one_line(tmp_path):
    read = write(tmp_path / "a", rows(10))
    (tmp_path / "a/shard-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"shard-00000\.parquet is damaged"):
        read[0]
