"""Prepared rows on disk: Parquet shards that are written as a stream and read at any place.

Image bytes are stored as they came. Row groups are small, so that reading one row reads little else.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.data import storage
from components.data.schema import SCHEMA, Row, Sample, Turn
from components.digests import file_digest
from components.errors import UserError

_ROW_GROUP_BYTES = 256_000
_ROW_GROUP_ROWS = 128
_DIGEST_BYTES = 32
_INDEX_ROWS = 10_000  # written at once
INDEX_SCHEMA = pa.schema(
    [
        ("group", pa.string()),
        ("image_hash", pa.string()),
        ("split", pa.string()),
        ("ids", pa.list_(pa.string())),  # of the row's samples, in order
        ("tasks", pa.list_(pa.string())),
        ("tokens", pa.list_(pa.int32())),  # of all turns of a sample, without template and image
        ("digest", pa.binary(_DIGEST_BYTES)),  # row_digest: what the row is compared with when it is first read
    ]
)


class ShardWriter:
    """Writes rows to one shard and its light columns to an index; the same rows give the same bytes."""

    def __init__(self, path: Path, index: Path):
        self._path = path
        self._group = list[dict[str, Any]]()
        self._group_bytes = 0
        self._rows = 0
        self._file: pq.ParquetWriter | None = None
        self._index = pq.ParquetWriter(index, INDEX_SCHEMA, compression="zstd")
        self._indexed = list[dict[str, Any]]()

    def add(self, row: Row, tokens: Sequence[int]) -> None:
        """`tokens` of each of the row's samples."""
        plain = plain_row(row)
        self._group.append(plain)
        self._group_bytes += _size(row)
        self._indexed.append({**_index_row(row, tokens), "digest": row_digest(plain)})
        if len(self._indexed) >= _INDEX_ROWS:
            self._write_index()
        if self._group_bytes >= _ROW_GROUP_BYTES or len(self._group) >= _ROW_GROUP_ROWS:
            self._write_group()

    def close(self) -> dict[str, Any] | None:
        """What the manifest says of the shard (name, rows, bytes, sha256), or None where no row was added."""
        self._write_group()
        self._write_index()
        self._index.close()
        if self._file is None:
            self._path.unlink(missing_ok=True)  # what an interrupted attempt left
            return None
        self._file.close()
        size, digest = self._path.stat().st_size, file_digest(self._path)
        return {"name": self._path.name, "rows": self._rows, "bytes": size, "sha256": digest}

    def _write_index(self) -> None:
        self._index.write_table(pa.Table.from_pylist(self._indexed, INDEX_SCHEMA))
        self._indexed = []

    def _write_group(self) -> None:
        if not self._group:
            return
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, SCHEMA, **_options())
        self._file.write_table(pa.Table.from_pylist(self._group, SCHEMA))
        self._rows += len(self._group)
        self._group, self._group_bytes = [], 0


def plain_row(row: Row) -> dict[str, Any]:
    """A row as SCHEMA stores it."""
    samples = [
        {
            "id": sample.id,
            "task": sample.task,
            "turns": [{"role": turn.role, "text": turn.text} for turn in sample.turns],
            "gold": sample.gold,
        }
        for sample in row.samples
    ]
    return {
        "group": row.group,
        "image_hash": row.image_hash,
        "image": row.image,
        "split": row.split,
        "samples": samples,
    }


def row_digest(plain: Mapping[str, Any]) -> bytes:
    """SHA-256 of a row as SCHEMA stores it; the image's hash stands for its bytes."""
    return hashlib.sha256(json.dumps({**plain, "image": None}, sort_keys=True).encode()).digest()


def index_digests(index: Path) -> dict[str, str]:
    """What the manifest says of the whole: `digest` over all rows in order, however they are cut into shards and
    whichever pyarrow wrote them; `index`, of the index's file.
    """
    rows = _joined(pq.read_table(index, columns=["digest"])["digest"])
    return {"digest": hashlib.sha256(rows).hexdigest(), "index": file_digest(index)}


def _joined(column: pa.ChunkedArray) -> bytes:
    """The index's column `digest` as one string: 32 bytes a row."""
    width = _DIGEST_BYTES
    parts = ((chunk, chunk.buffers()[1]) for chunk in column.chunks if len(chunk))
    return b"".join(
        buffer[chunk.offset * width : (chunk.offset + len(chunk)) * width].to_pybytes() for chunk, buffer in parts
    )


def _size(row: Row) -> int:
    texts = sum(len(turn.text) for sample in row.samples for turn in sample.turns)
    return len(row.image or b"") + texts


def _index_row(row: Row, tokens: Sequence[int]) -> dict[str, Any]:
    return {
        "group": row.group,
        "image_hash": row.image_hash,
        "split": row.split,
        "ids": [sample.id for sample in row.samples],
        "tasks": [sample.task for sample in row.samples],
        "tokens": list(tokens),
    }


def _options() -> dict[str, Any]:
    """Images are compressed already; statistics of texts and images would only swell the footer."""
    sink = pa.BufferOutputStream()
    pq.write_table(SCHEMA.empty_table(), sink)
    schema = pq.ParquetFile(sink.getvalue()).schema
    columns = [schema.column(number).path for number in range(len(schema.names))]
    return {
        "compression": {column: "none" if column == "image" else "zstd" for column in columns},
        "use_dictionary": ["split", "samples.list.element.task", "samples.list.element.turns.list.element.role"],
        "write_statistics": False,
    }


@dataclass(frozen=True)
class _Shard:
    file: pq.ParquetFile
    starts: list[int]  # first row of each row group within the shard, and the end


class PreparedRows:
    """The rows of a prepared source: len(rows), rows[i] -> Row, `columns` and `index` for the light columns.

    The source lies in a folder or under a URL that fsspec knows (s3://bucket/prepared/unifood). Files are opened
    when first needed, and again in a forked or unpickled copy; several threads may read. Keeps the
    `cached_groups` row groups used last (each a few hundred kB). What is read is compared once, when it is first used,
    with the digests that were written with it: the index with the manifest's, each row with the index's.
    """

    def __init__(self, folder: Path | str, cached_groups: int = 64):
        self.folder = str(folder).rstrip("/")
        self.source = self.folder.rpartition("/")[2]
        self.manifest = read_manifest(self.folder)
        self._cached_groups = cached_groups
        self._starts = [0, *accumulate(shard["rows"] for shard in self.manifest["shards"])]
        self._digests: bytes | None = None  # of all rows, read when the first row is
        self._compared = bytearray(self._starts[-1])  # 1 for each row that was
        self._index_compared = False
        self._forget()

    def _forget(self) -> None:
        self._shards = dict[int, _Shard]()
        self._groups = OrderedDict[tuple[int, int], pa.Table]()
        self._process = os.getpid()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name != "_lock"}
        return {**kept, "_shards": {}, "_groups": OrderedDict(), "_digests": None, "_process": -1}

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Row]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Row:
        if not 0 <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        if self._process != os.getpid():
            self._forget()  # a file position shared with the parent process would mix up reads
        shard = bisect_right(self._starts, number) - 1
        inside = number - self._starts[shard]
        with self._lock:
            starts = self._open(shard).starts
            group = bisect_right(starts, inside) - 1
            table = self._read(shard, group)
        try:
            value = table.slice(inside - starts[group], 1).to_pylist()[0]
        except (UnicodeDecodeError, IndexError, pa.ArrowException):
            raise self._altered(self.manifest["shards"][shard]["name"], f" (row {number})") from None
        if not self._compared[number]:
            self._compare(value, number, shard)
        return _row(value, self.source)

    def _compare(self, value: dict[str, Any], number: int, shard: int) -> None:
        """UserError where a row is not the one that was prepared."""
        if self._digests is None:
            digests = _joined(self.columns("digest")["digest"])
            if hashlib.sha256(digests).hexdigest() != self.manifest["digest"]:
                raise self._altered("index.parquet")
            self._digests = digests
        image = value["image"]
        sound = image is None or hashlib.sha256(image).hexdigest() == value["image_hash"]
        at = number * _DIGEST_BYTES
        if not sound or row_digest(value) != self._digests[at : at + _DIGEST_BYTES]:
            raise self._altered(self.manifest["shards"][shard]["name"], f" (row {number})")
        self._compared[number] = 1

    def _altered(self, name: str, where: str = "") -> UserError:
        return UserError(
            f"{self.folder}/{name}{where} is not what was written with manifest.json; "
            f"run: dvc repro --force prepare@{self.source}, or copy the folder again where it is a copy"
        )

    def columns(self, *names: str) -> pa.Table:
        """Light columns (names in INDEX_SCHEMA) of every row in order."""
        with storage.opened(f"{self.folder}/index.parquet") as file:
            data = file.read()
        if not self._index_compared and hashlib.sha256(data).hexdigest() != self.manifest["index"]:
            raise self._altered("index.parquet")
        self._index_compared = True
        table = pq.read_table(pa.BufferReader(data), columns=list(names))
        if table.num_rows != len(self):
            raise self._altered("index.parquet", f" ({table.num_rows} rows, {len(self)} in the manifest)")
        return table

    @property
    def index(self) -> pa.Table:
        """What INDEX_SCHEMA lists but the digests, for every row in order: no images, no texts."""
        return self.columns(*(name for name in INDEX_SCHEMA.names if name != "digest"))

    def _open(self, shard: int) -> _Shard:
        if shard not in self._shards:
            path = f"{self.folder}/{self.manifest['shards'][shard]['name']}"
            try:
                file = storage.open_parquet(path)
            except (OSError, pa.ArrowInvalid) as error:
                raise UserError(f"{path} is damaged ({error}); run: dvc repro prepare") from None
            sizes = (file.metadata.row_group(number).num_rows for number in range(file.num_row_groups))
            self._shards[shard] = _Shard(file, [0, *accumulate(sizes)])
        return self._shards[shard]

    def _read(self, shard: int, group: int) -> pa.Table:
        key = (shard, group)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        opened = self._open(shard).file
        try:
            table = self._groups[key] = opened.read_row_group(group, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            name = self.manifest["shards"][shard]["name"]
            raise UserError(f"{self.folder}/{name} is damaged ({error}); run: dvc repro prepare") from None
        while len(self._groups) > self._cached_groups:
            self._groups.popitem(last=False)
        return table


def read_manifest(folder: Path | str) -> dict[str, Any]:
    path = f"{folder}/manifest.json"
    try:
        with storage.opened(path) as file:
            manifest = json.loads(file.read())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run: dvc repro prepare") from None
    except (ValueError, RecursionError, IsADirectoryError) as error:
        raise _no_manifest(path, str(error)) from None
    digests = isinstance(manifest, dict) and all(isinstance(manifest.get(name), str) for name in ("digest", "index"))
    if not digests or not _are_shards(manifest.get("shards")):
        raise _no_manifest(path, "shards, digest or index are not as they are written")
    return manifest


def _are_shards(listed: Any) -> bool:
    """Whether each entry names a file of the folder and how many rows it has."""
    return isinstance(listed, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and Path(one["name"]).name == one["name"]
        and type(one.get("rows")) is int
        and one["rows"] > 0
        for one in listed
    )


def _no_manifest(path: str, why: str) -> UserError:
    source = path.split("/")[-2]
    return UserError(f"{path} is no manifest of this project ({why}); run: dvc repro --force prepare@{source}")


def _row(value: dict[str, Any], source: str) -> Row:
    samples = [
        Sample(sample["id"], sample["task"], [Turn(**turn) for turn in sample["turns"]], sample["gold"])
        for sample in value["samples"]
    ]
    return Row(value["group"], samples, value["image"], value["image_hash"], value["split"], source)
