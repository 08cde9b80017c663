"""Raw files of one source to checked Parquet shards, as a stream: memory does not grow with the source.

Writes shard-*.parquet, index.parquet, rejects.parquet (source, id, reason, detail) and manifest.json. The same
input gives the same bytes, whoever made which shard. Records are counted in samples: kept + rejected = read.
Shards lie in run state until the source is whole: a preparation that was stopped goes on with the missing ones.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import PIL
import pyarrow as pa
import pyarrow.parquet as pq
import tokenizers

from components.data.shards import INDEX_SCHEMA, index_digests
from components.digests import digest, file_digest
from components.errors import UserError
from components.files import fresh_folder, remove_folder, write_json
from components.images.store import ImageStore
from components.imports import code_digest
from components.locks import lock
from components.params import Data, Source
from components.prepare.checks import REASONS
from components.prepare.chunk import REJECTS_SCHEMA, ChunkFiles, Progress, Rules
from components.prepare.chunks import Chunk, chunks
from components.prepare.counts import RecordCounts
from components.prepare.parallel import make_chunks
from components.sources import reader
from components.sources.entry import source_root
from components.workspace import home


def prepare_source(
    name: str, spec: Source, data: Data, tokenizer: Path, out: Path, progress: Progress = lambda kept, rejected: None
) -> dict[str, Any]:
    """Prepare data.sources[name] into the folder `out` and return its manifest.

    `tokenizer` (tokenizer.json) counts tokens. UserError where more than data.max_rejected of the records fail;
    their list is kept under home().
    """
    todo = source_chunks(spec, data)
    if not tokenizer.is_file():
        raise UserError(f"{tokenizer} is missing; run: dvc repro base")
    rules = Rules(data.max_pixels, tokenizer.resolve())
    folder = home() / "runs" / f"prepare-{_run_digest(name, spec, data, tokenizer)[:16]}"
    with lock(folder.name):  # queued experiments may come to the same preparation at the same time
        folder.mkdir(parents=True, exist_ok=True)
        counts, made = RecordCounts(), 0
        for one in make_chunks(todo, name, folder, rules, lambda k, r: progress(counts.kept + k, counts.rejected + r)):
            counts.merge(one)
            made += 1
            progress(counts.kept, counts.rejected)
        parts = [ChunkFiles(folder, number) for number in range(made)]
        with fresh_folder(out) as ready:
            _join((part.rejects for part in parts), REJECTS_SCHEMA, ready / "rejects.parquet")
            problem = too_many_rejects(f"data.sources.{name}", counts, data.max_rejected)
            if problem:
                raise UserError(f"{problem}; see {_kept(ready / 'rejects.parquet', name)}")
            _join((part.index for part in parts), INDEX_SCHEMA, ready / "index.parquet")
            shards = []
            for part in parts:
                shard = part.shard_entry()
                if shard:
                    _place(part.shard, ready / part.shard.name)
                    shards.append(shard)
            manifest = {
                "source": name,
                "kind": spec.kind,
                **counts.summary(),
                "shards": shards,
                **index_digests(ready / "index.parquet"),
                "tokenizer": file_digest(tokenizer),
                "versions": _versions(),
            }
            write_json(ready / "manifest.json", manifest)
        remove_folder(folder)
    return manifest


def source_chunks(spec: Source, data: Data) -> Iterator[Chunk]:
    """What is to be checked of a source; nothing but annotations and lists of images is read for it."""
    entries = reader(spec.kind)(spec)
    store = ImageStore.open(source_root(spec), spec.images, data.max_pixels)
    return chunks(entries, store, data.shard_bytes)


def _run_digest(name: str, spec: Source, data: Data, tokenizer: Path) -> str:
    """Finished shards serve again while this is the same; what the raw files hold is in their keys."""
    settings = {"source": name, **spec.model_dump(), "pixels": data.max_pixels, "bytes": data.shard_bytes}
    code = code_digest("components.prepare.source")
    return digest([settings, file_digest(tokenizer), code, _versions()])


def _versions() -> dict[str, str]:
    return {
        "python": sys.version.split()[0],
        "pillow": PIL.__version__,
        "pyarrow": pa.__version__,
        "tokenizers": tokenizers.__version__,
    }


def _join(paths: Iterable[Path], schema: pa.Schema, out: Path) -> None:
    with pq.ParquetWriter(out, schema, compression="zstd") as joined:
        for path in paths:
            with pq.ParquetFile(path, pre_buffer=False) as part:
                joined.write_table(part.read(use_threads=False))  # threads would each keep some memory


def _kept(rejects: Path, name: str) -> Path:
    """The list of rejects, where it outlasts the refused source."""
    out = home() / "rejects" / f"{name}.parquet"
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(rejects, out)
    return out


def _place(made: Path, out: Path) -> None:
    """Without a copy where both lie on one file system."""
    try:
        os.link(made, out)
    except OSError:
        shutil.copyfile(made, out)


def too_many_rejects(name: str, counts: RecordCounts, allowed: float) -> str | None:
    """Why a source is refused: more than the allowed share fails, or nothing is left."""
    unexpected = counts.unexpected
    bad = unexpected.total()
    share = bad / (bad + counts.kept) if bad else 0.0
    if share <= allowed and counts.kept:
        return None
    if not counts.reasons:
        return f"{name}: its files hold no record"
    reason, count = (unexpected if bad else counts.reasons).most_common(1)[0]
    most = f"mostly {reason} ({count}: {REASONS[reason]})"
    if bad:
        limit = f"{share:.1%}, above data.max_rejected {allowed:.1%}" if counts.kept else "all"
        return f"{name}: {bad} of {bad + counts.kept} records rejected ({limit}), {most}"
    return f"{name}: no record can be used, {most}"
