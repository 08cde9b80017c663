"""Raw files of one source to checked Parquet shards, as a stream: memory does not grow with the source.

Writes shard-*.parquet, index.parquet, rejects.parquet (source, id, reason, detail) and manifest.json. The same
input gives the same bytes. Records are counted in samples: kept + rejected = read.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import PIL
import pyarrow as pa
import pyarrow.parquet as pq

from components.data.checks import REASONS, Checked, check_entry
from components.data.image_store import ImageStore
from components.data.schema import Row
from components.data.shards import ShardWriter
from components.data.sources import reader
from components.data.sources.entry import Entry, Reject, source_root
from components.errors import UserError
from components.files import fresh_folder, write_json
from components.home import home
from components.params import Data, Source

Progress = Callable[[int, int], None]  # records kept and rejected so far

_THREADS = 4  # decoding releases the interpreter lock
_LOOK_AHEAD = 64  # entries being checked; bounds the image bytes in memory
_SAMPLES_PER_ROW = 64
_REJECTS_SCHEMA = pa.schema([(name, pa.string()) for name in ("source", "id", "reason", "detail")])
_QUANTILES = (0, 0.25, 0.5, 0.75, 0.95, 0.99, 1)


def prepare_source(name: str, spec: Source, data: Data, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Prepare data.sources[name] into the folder `out` and return its manifest.

    UserError where more than data.max_rejected of the records fail; their list is kept under home().
    """
    entries = reader(spec.kind)(spec)
    store = ImageStore.open(source_root(spec), spec.images, data.max_pixels)
    tally = _Tally()
    with fresh_folder(out) as folder:
        writer = ShardWriter(folder, data.shard_bytes)
        rejects_path = folder / "rejects.parquet"
        with _RejectsWriter(rejects_path, name) as rejects:
            for checked in _checked(entries, store, data.max_pixels):
                tally.add(checked)
                rejects.add(checked.rejects)
                if checked.row:
                    writer.add(checked.row)
                if progress:
                    progress(tally.kept, tally.rejected)
        writer.close()
        _refuse_too_many_rejects(name, tally, data.max_rejected, rejects_path)
        manifest = {
            "source": name,
            "kind": spec.kind,
            **tally.summary(),
            "shards": writer.shards,
            "digest": tally.digest(),
            "versions": {"python": sys.version.split()[0], "pillow": PIL.__version__, "pyarrow": pa.__version__},
        }
        write_json(folder / "manifest.json", manifest)
    return manifest


def _checked(entries: Iterable[Entry | Reject], store: ImageStore, max_pixels: int) -> Iterator[Checked]:
    """Results in the order of the entries, `_LOOK_AHEAD` of them under way at once."""
    waiting = deque[Future[Checked] | Checked]()
    with ThreadPoolExecutor(_THREADS) as pool:
        for entry in _merged(entries):
            if isinstance(entry, Reject):
                waiting.append(Checked(None, [entry]))
            else:
                waiting.append(pool.submit(check_entry, entry, store, max_pixels))
            if len(waiting) >= _LOOK_AHEAD:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(waiting: Future[Checked] | Checked) -> Checked:
    return waiting.result() if isinstance(waiting, Future) else waiting


def _merged(entries: Iterable[Entry | Reject]) -> Iterator[Entry | Reject]:
    """Neighbouring entries about one image become one, so that the image is read and stored once."""
    held: Entry | None = None
    for entry in entries:
        if isinstance(entry, Reject):
            yield entry
        elif held and _one_row(held, entry):
            held = replace(held, samples=held.samples + entry.samples)
        else:
            if held:
                yield held
            held = entry
    if held:
        yield held


def _one_row(one: Entry, other: Entry) -> bool:
    same = one.image is not None and (one.image, one.group, one.split) == (other.image, other.group, other.split)
    return same and len(one.samples) + len(other.samples) <= _SAMPLES_PER_ROW


@dataclass
class _Tally:
    """Everything the manifest says about the records, counted as they pass."""

    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    held_against: Counter[str] = field(default_factory=Counter)  # reasons without the expected rejects
    rows: int = 0
    images: int = 0
    other_endings: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    declared: Counter[str] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)  # characters of a sample's answers
    content: Any = field(default_factory=hashlib.sha256)

    @property
    def rejected(self) -> int:
        return self.reasons.total()

    def add(self, checked: Checked) -> None:
        for reject in checked.rejects:
            assert reject.reason in REASONS, reject.reason
            self.reasons[reject.reason] += 1
            self.held_against[reject.reason] += not reject.expected
        self.other_endings += checked.other_ending
        if checked.row:
            self._add_row(checked.row)

    def _add_row(self, row: Row) -> None:
        self.rows += 1
        self.images += row.image is not None
        self.kept += len(row.samples)
        for sample in row.samples:
            self.tasks[sample.task] += 1
            self.declared[row.split or "none"] += 1
            self.lengths[sum(len(turn.text) for turn in sample.turns if turn.role == "assistant")] += 1
        # the hash stands for the image's bytes
        self.content.update(json.dumps(asdict(replace(row, image=None)), sort_keys=True).encode())

    def digest(self) -> str:
        """SHA-256 over all rows in order; how they are cut into shards and which pyarrow wrote them do not count."""
        return self.content.hexdigest()

    def summary(self) -> dict[str, Any]:
        return {
            "records": {
                "read": self.kept + self.rejected,
                "kept": self.kept,
                "rejected": self.rejected,
                "rejected_as_expected": self.rejected - self.held_against.total(),
                "reasons": dict(sorted(self.reasons.items())),
            },
            "rows": self.rows,
            "images": self.images,
            "images_under_another_ending": self.other_endings,
            "tasks": dict(sorted(self.tasks.items())),
            "declared_splits": dict(sorted(self.declared.items())),
            "answer_characters": _quantiles(self.lengths),
        }


def _quantiles(counts: Counter[int]) -> dict[str, int]:
    """The value below or at which the given share of all lies."""
    if not counts:
        return {}
    wanted = [(share, share * (counts.total() - 1)) for share in _QUANTILES]
    found, passed = {}, 0
    for value in sorted(counts):
        passed += counts[value]
        while wanted and wanted[0][1] < passed:
            found[f"{wanted.pop(0)[0]:g}"] = value
    return found


class _RejectsWriter:
    """rejects.parquet, written in pieces."""

    def __init__(self, path: Path, source: str):
        self._file = pq.ParquetWriter(path, _REJECTS_SCHEMA, compression="zstd")
        self._source = source
        self._rows = list[dict[str, str]]()

    def add(self, rejects: Iterable[Reject]) -> None:
        for reject in rejects:
            texts = {"id": reject.id, "reason": reject.reason, "detail": reject.detail}
            self._rows.append({"source": self._source} | {key: _clean(text) for key, text in texts.items()})
        if len(self._rows) >= 1000:
            self._flush()

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._rows, _REJECTS_SCHEMA))
        self._rows = []

    def __enter__(self) -> _RejectsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()


def _clean(text: str) -> str:
    """Text that can be stored: broken characters escaped, no longer than a person reads."""
    return text[:500].encode(errors="backslashreplace").decode()


def _refuse_too_many_rejects(name: str, tally: _Tally, allowed: float, rejects: Path) -> None:
    bad = tally.held_against.total()
    share = bad / (bad + tally.kept) if bad else 0.0
    if share <= allowed and tally.kept:
        return
    kept_list = home() / "rejects" / f"{name}.parquet"
    kept_list.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(rejects, kept_list)
    if not tally.reasons:
        raise UserError(f"data.sources.{name}: its files hold no record")
    reason, count = (tally.held_against if bad else tally.reasons).most_common(1)[0]
    most = f"mostly {reason} ({count}: {REASONS[reason]}); see {kept_list}"
    if bad:
        limit = f"{share:.1%}, above data.max_rejected {allowed:.1%}" if tally.kept else "all"
        raise UserError(f"data.sources.{name}: {bad} of {bad + tally.kept} records rejected ({limit}), {most}")
    raise UserError(f"data.sources.{name}: no record can be used, {most}")
