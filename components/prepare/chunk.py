"""Make one chunk: check its entries in a few threads, write its shard. Runs here or on a Ray worker.

Writes into the folder of the run, under the chunk's number: shard, index and rejects (Parquet) and, last, the counts
with the SHA-256 of each file: a chunk whose counts bear its key, and whose files are still those, is finished.
"""

from __future__ import annotations

import gc
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.shards import ShardWriter
from components.digests import digest, file_digest
from components.files import write_text
from components.prepare.checks import Checked, Located, check_entry
from components.prepare.chunks import Chunk
from components.prepare.counts import RecordCounts
from components.prepare.token_counts import count_tokens
from components.sources.entry import Reject

REJECTS_SCHEMA = pa.schema([(name, pa.string()) for name in ("source", "id", "reason", "detail")])
_THREADS = 4  # reading and decoding release the interpreter lock
_LOOK_AHEAD = 8  # batches being checked; with the next it bounds the images in memory
_BATCH = 8  # entries that a thread takes at once

Item = Located | Reject
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rules:
    """What a check needs to know. Without a tokenizer tokens are not counted."""

    max_pixels: int
    tokenizer: Path | None


def checked(items: Iterable[Item], rules: Rules) -> Iterator[tuple[Checked, list[int]]]:
    """What became of each item, in order, and the tokens of each sample that is kept."""
    waiting = deque[Future[list[tuple[Checked, list[int]]]]]()
    with ThreadPoolExecutor(_THREADS) as pool:
        left = iter(items)
        while batch := list(islice(left, _BATCH)):
            waiting.append(pool.submit(_check, batch, rules))
            if len(waiting) >= _LOOK_AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _check(items: Sequence[Item], rules: Rules) -> list[tuple[Checked, list[int]]]:
    found = [
        Checked(None, [item]) if isinstance(item, Reject) else check_entry(item, rules.max_pixels) for item in items
    ]
    if rules.tokenizer is None:
        return [(one, []) for one in found]
    samples = [sample for one in found if one.row for sample in one.row.samples]
    counts = iter(count_tokens(rules.tokenizer, samples))
    return [(one, [next(counts) for _ in one.row.samples] if one.row else []) for one in found]


def make_chunk(
    chunk: Chunk, source: str, folder: Path, rules: Rules, progress: Progress = lambda kept, rejected: None
) -> RecordCounts:
    """Write a chunk's files; `progress` hears of the records kept and rejected in it so far."""
    files = ChunkFiles(folder, chunk.number)
    files.counts.unlink(missing_ok=True)
    counts, rejects = RecordCounts(), list[Reject]()
    writer = ShardWriter(files.shard, files.index)
    for one, tokens in checked(chunk.items, rules):
        counts.add(one, tokens)
        rejects += one.rejects
        if one.row:
            writer.add(one.row, tokens)
        progress(counts.kept, counts.rejected)
    shard = writer.close()
    pq.write_table(rejects_table(source, rejects), files.rejects, compression="zstd")
    files.finish({"key": chunk.key, "shard": shard, "counts": counts.plain()})
    gc.collect()  # what ended in cycles would stay until much more has piled up
    pa.default_memory_pool().release_unused()
    return counts


@dataclass(frozen=True)
class ChunkFiles:
    folder: Path
    number: int

    @property
    def shard(self) -> Path:
        return self.folder / f"shard-{self.number:05}.parquet"

    @property
    def index(self) -> Path:
        return self.folder / f"index-{self.number:05}.parquet"

    @property
    def rejects(self) -> Path:
        return self.folder / f"rejects-{self.number:05}.parquet"

    @property
    def counts(self) -> Path:
        return self.folder / f"counts-{self.number:05}.json"

    def finish(self, content: dict[str, Any]) -> None:
        """Write the counts: what was made (key, shard, counts) and the digests of the other files."""
        content = {**content, "files": self._digests(content["shard"])}
        write_text(self.counts, json.dumps({**content, "digest": digest(content)}))

    def finished(self, key: str) -> dict[str, Any] | None:
        """What `finish` wrote for the chunk of this key; None where that is not there, not whole or damaged."""
        try:
            content = json.loads(self.counts.read_text(encoding="utf-8"))
            own = content.pop("digest")
            if own != digest(content) or content["key"] != key or content["files"] != self._digests(content["shard"]):
                return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return content

    def shard_entry(self) -> dict[str, Any] | None:
        """What the manifest says of a finished chunk's shard; None where all its records were rejected."""
        return json.loads(self.counts.read_text(encoding="utf-8"))["shard"]

    def _digests(self, shard: dict[str, Any] | None) -> dict[str, str]:
        files = {"index": file_digest(self.index), "rejects": file_digest(self.rejects)}
        return {**files, "shard": file_digest(self.shard)} if shard else files


def rejects_table(source: str, rejects: Sequence[Reject]) -> pa.Table:
    columns = [
        [source] * len(rejects),
        [_clean(reject.id) for reject in rejects],
        [reject.reason for reject in rejects],
        [_clean(reject.detail) for reject in rejects],
    ]
    return pa.table(columns, schema=REJECTS_SCHEMA)


def _clean(text: str) -> str:
    """Text that can be stored: broken characters escaped, no longer than a person reads."""
    return text[:500].encode(errors="backslashreplace").decode()
