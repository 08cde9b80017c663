"""Spread a source's chunks over Ray's workers; a small source is made in this process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from components.cluster import import_path, start_ray
from components.errors import UserError
from components.nodes import check_workspace
from components.prepare.chunk import ChunkFiles, Progress, Rules, make_chunk
from components.prepare.chunks import Chunk
from components.prepare.counts import RecordCounts

_WORTH_RAY_BYTES = 200_000_000  # starting Ray takes as long as checking about this much here
_WORTH_RAY_ITEMS = 50_000
WORKER_ENVIRONMENT = {
    "PYTHONPATH": import_path(),
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    # what a chunk took is given back after it: a tenth less memory a worker, and no growth from chunk to chunk
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
}


def make_chunks(
    todo: Iterable[Chunk], source: str, folder: Path, rules: Rules, progress: Progress
) -> Iterator[RecordCounts]:
    """The counts of each chunk as it gets done; finished ones are found again and not made.

    `progress` hears of the records of the one that is being made in this process.
    """
    size = items = 0
    todo = iter(todo)
    for chunk in todo:
        found = _found(chunk, folder)
        if found is None:
            if size > _WORTH_RAY_BYTES or items > _WORTH_RAY_ITEMS:
                yield from _on_workers(_with_first(chunk, todo), source, folder, rules)
                return
            size, items = size + chunk.size, items + len(chunk.items)
            found = make_chunk(chunk, source, folder, rules, progress)
        yield found


def _with_first(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield first
    yield from rest


def _found(chunk: Chunk, folder: Path) -> RecordCounts | None:
    finished = ChunkFiles(folder, chunk.number).finished(chunk.key)
    return RecordCounts.of_plain(finished["counts"]) if finished else None


def _on_workers(todo: Iterable[Chunk], source: str, folder: Path, rules: Rules) -> Iterator[RecordCounts]:
    """At most one chunk more than there are CPUs is under way, so that memory stays flat."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.exceptions import RayError, RayTaskError

    mine = not ray.is_initialized()
    if mine:
        start_ray(1, WORKER_ENVIRONMENT, on_disk=True)
        check_workspace("components.prepare.chunk")
    work = ray.remote(num_cpus=1)(make_chunk)
    under_way = list[ray.ObjectRef]()
    try:
        for chunk in todo:
            found = _found(chunk, folder)
            if found is not None:
                yield found
                continue
            if len(under_way) > ray.cluster_resources().get("CPU", 1):
                (done,), under_way = ray.wait(under_way, num_returns=1)
                yield ray.get(done)
            under_way.append(work.remote(chunk, source, folder, rules))
        while under_way:
            (done,), under_way = ray.wait(under_way, num_returns=1)
            yield ray.get(done)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise UserError(
            f"data.sources.{source}: a worker was lost ({type(error).__name__}); "
            "run the stage again to go on, finished shards are kept"
        ) from error
    finally:
        if mine:
            ray.shutdown()
