"""Annotations in other encodings, packed, or as Parquet: the same records; what is no text is named."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import UserError
from components.params import Source
from components.sources import SOURCES
from components.sources.entry import Entry, source_root
from components.sources.records import read_object, read_records
from tests.raw import RAW, llava_record, picture, write_tar

RECORDS = [{"id": "1", "text": "crème brûlée, mustard"}, {"id": "2", "text": "麻婆豆腐"}]
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


def read(path: Path) -> list[Any]:
    return [record for _, record in read_records(path)]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("lines", [False, True])
def test_records_are_read_from_every_encoding_and_packing(tmp_path, packing: str, encoding: str, lines: bool):
    texts = [json.dumps(record, ensure_ascii=False) for record in RECORDS]
    text = "\n".join(texts) if lines else f"[{','.join(texts)}]"
    (tmp_path / "a.json").write_bytes(PACKINGS[packing](text.encode(encoding)))
    assert read(tmp_path / "a.json") == RECORDS
    (tmp_path / "b.json").write_bytes(PACKINGS[packing](texts[0].encode(encoding)))
    assert read_object(tmp_path / "b.json") == RECORDS[0]


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz"])
def test_packed_file_that_is_cut_off_is_one_line(tmp_path, packing: str):
    data = PACKINGS[packing](json.dumps([llava_record(number) for number in range(999)]).encode())
    for cut in (len(data) // 2, len(data) - 3):
        (tmp_path / "a.json").write_bytes(data[:cut])
        with pytest.raises(UserError, match=r"a\.json is cut off or damaged"):
            read(tmp_path / "a.json")


def test_utf_16_that_is_cut_off_is_one_line(tmp_path):
    (tmp_path / "a.json").write_bytes(json.dumps(RECORDS).encode("utf-16")[:-1])
    with pytest.raises(UserError, match=r"a\.json is cut off or damaged"):
        read(tmp_path / "a.json")


def test_parquet_is_read_row_by_row(tmp_path):
    pq.write_table(pa.Table.from_pylist([llava_record(number) for number in range(300)]), tmp_path / "a.parquet")
    spec = Source(kind="llava_json", path=str(tmp_path), annotations="*.parquet", images=".")
    entries = [entry for entry in SOURCES["llava_json"](spec) if isinstance(entry, Entry)]
    assert [entry.image for entry in entries] == [f"{number}.png" for number in range(300)]
    assert entries[7].samples[0].turns[1].text == "plate 7"


def test_parquet_with_other_columns_or_damage_is_one_line(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": ["1"], "image": [picture(1)]}), path)
    with pytest.raises(UserError, match="Parquet without a column conversations or messages; it has id, image"):
        list(read_records(path, ("conversations", "messages")))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"Parquet that is cut off or damaged"):
        read(path)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"<!DOCTYPE html><html>404</html>", "HTML"),
        (picture(1), "PNG"),
        (b"PK\3\4" + bytes(30), "zip"),
        (b"Rar!\x1a\7\1\0" + bytes(30), "RAR"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x28\xb5\x2f\xfd" + bytes(30), "zstd"),
        (b"%PDF-1.7", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (gzip.compress(b"PK\3\4" + bytes(30)), "zip inside gzip"),
        (gzip.compress(gzip.compress(b"[]")), "gzip inside gzip"),
    ],
)
def test_what_is_no_text_is_named(tmp_path, data: bytes, kind: str):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.json is {kind}; JSON, JSON lines and Parquet .* are read"):
        read(tmp_path / "a.json")


def test_text_that_looks_like_a_kind_is_text(tmp_path):
    text = json.dumps([{"text": "x" * 245 + "mustard"}])
    assert text.index("ustar") == 257
    (tmp_path / "a.json").write_text(text)
    assert len(read(tmp_path / "a.json")) == 1
    (tmp_path / "results.token").write_text("BMW.jpg#0\tA car.\n")
    spec = Source(kind="flickr30k", path=str(tmp_path), annotations="*.token", images=".")
    assert [entry.image for entry in SOURCES["flickr30k"](spec) if isinstance(entry, Entry)] == ["BMW.jpg"]


@pytest.mark.parametrize(("kind", "name"), [("flickr30k", "results.token"), ("nutrition5k", "dish_metadata_cafe1.csv")])
def test_tables_are_read_from_other_encodings_and_packed(tmp_path, kind: str, name: str):
    spec = RAW[kind](tmp_path / "raw")
    plain = list(SOURCES[kind](spec))
    text = (tmp_path / "raw" / name).read_bytes().decode()
    for data in (text.encode("utf-16"), gzip.compress(text.encode())):
        (tmp_path / "raw" / name).write_bytes(data)
        assert list(SOURCES[kind](spec)) == plain


def test_packed_tar_as_annotations_is_named(tmp_path):
    write_tar(tmp_path / "a.tar", {"1.json": b"{}"})
    (tmp_path / "a.json").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(UserError, match="is tar inside gzip"):
        read(tmp_path / "a.json")


def test_source_in_the_home_of_no_user_is_one_line():
    spec = Source(kind="llava_json", path="~nosuchuser/data", annotations="*.json", images=".")
    with pytest.raises(UserError, match="~nosuchuser/data is no folder: could not determine home directory"):
        source_root(spec)
