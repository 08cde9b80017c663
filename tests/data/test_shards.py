"""What is read back is what was prepared, or it is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.schema import SCHEMA
from components.data.shards import PreparedRows
from components.errors import UserError
from tests.raw import data_settings, picture, prepared, raw_llava_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepared("mine", raw_llava_json(tmp_path / "raw", 20), data_settings(), tmp_path / "prepared/mine")
    return tmp_path / "prepared/mine"


def rewrite(path: Path, change: Callable[[list[dict]], None], schema: pa.Schema | None) -> None:
    rows = pq.read_table(path).to_pylist()
    schema = schema or pq.read_schema(path)
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def answer(rows: list[dict]) -> None:
    rows[7]["samples"][0]["turns"][1]["text"] = "poison"


def image(rows: list[dict]) -> None:
    rows[7]["image"] = picture(99)


def image_with_its_hash(rows: list[dict]) -> None:
    rows[7]["image"], rows[7]["image_hash"] = rows[8]["image"], rows[8]["image_hash"]


def order(rows: list[dict]) -> None:
    rows[7], rows[8] = rows[8], rows[7]


@pytest.mark.parametrize("change", [answer, image, image_with_its_hash, order])
@pytest.mark.parametrize("remote", [False, True])
def test_rewritten_row_is_refused_where_it_is_read(folder: Path, change: Callable[[list[dict]], None], remote: bool):
    rewrite(folder / "shard-00000.parquet", change, SCHEMA)
    place = str(folder)
    if remote:
        fsspec.filesystem("memory").put(str(folder), f"/{change.__name__}", recursive=True)
        place = f"memory://{change.__name__}/mine"
        if not fsspec.filesystem("memory").exists(f"/{change.__name__}/mine"):
            place = f"memory://{change.__name__}"
    rows = PreparedRows(place)
    assert rows[3].samples[0].turns[1].text == "plate 3"
    with pytest.raises(UserError, match=r"shard-00000\.parquet \(row 7\) is not what was written with manifest\.json"):
        rows[7]


def test_index_that_was_rewritten_is_refused(folder: Path):
    def longer(rows: list[dict]) -> None:
        rows[0]["tokens"] = [9]

    rewrite(folder / "index.parquet", longer, None)
    with pytest.raises(UserError, match=r"index\.parquet is not what was written with manifest\.json"):
        PreparedRows(folder).columns("tokens")
    with pytest.raises(UserError, match=r"index\.parquet is not"):
        PreparedRows(folder)[0]


def test_row_index_and_manifest_that_agree_but_not_with_the_digest_are_refused(folder: Path):
    """The digest in the manifest is the one that splits and runs are known by."""
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"digest": "0" * 64}))
    with pytest.raises(UserError, match=r"index\.parquet is not"):
        PreparedRows(folder)[0]


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_damaged_shard_is_one_line(folder: Path, part: float):
    path = folder / "shard-00000.parquet"
    data = bytearray(path.read_bytes())
    at = int(len(data) * part)
    data[at : at + 300] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"shard-00000\.parquet"):
        list(PreparedRows(folder))


def test_copy_in_another_process_compares_for_itself(folder: Path):
    rows = PreparedRows(folder)
    assert rows[7].samples[0].turns[1].text == "plate 7"
    copy = pickle.loads(pickle.dumps(rows))
    assert [row.samples[0].turns[1].text for row in copy] == [f"plate {number}" for number in range(20)]
