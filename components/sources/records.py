"""Records out of a file, one at a time: a JSON list, JSON lines, objects in a row, or Parquet, whatever its ending.

A list of a million records is decoded piece by piece, so memory does not grow with the file. Damage to one
line costs that line; damage inside a list hides everything after it, so the file is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from components.errors import UserError
from components.sources.entry import Reject
from components.sources.text_files import is_parquet, open_text

_CHUNK = 1 << 17  # characters read at once
_LONGEST_RECORD = 1 << 26  # characters; more than that is damage, not a record
_LONGEST_OBJECT = 1 << 30
_ROWS = 64  # of a Parquet file, held at once
_BLANK = " \t\r\n"


def read_records(path: Path, columns: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """Yield (place, record). A line that is no JSON comes as a Reject; `place` is `file:number`.

    `columns`: a Parquet file without any of these holds other data, and is refused; so is one JSON object without
    them that holds records with them, which would count as one however many are inside.
    """
    if is_parquet(path):
        yield from ((f"{path.name}:{number}", row) for number, row in enumerate(_of_parquet(path, columns)))
        return
    with open_text(path, newline="\n") as stream:
        start = _first_character(stream)
        stream.seek(0)
        records = _of_list(stream, path) if start == "[" else _no_wrapper(_of_objects(stream, path), path, columns)
        for number, record in enumerate(records):
            yield f"{path.name}:{number}", record


def read_object(path: Path) -> dict[str, Any]:
    """A file that is one JSON object, small enough to be held (tens of megabytes)."""
    with open_text(path) as stream:
        text = stream.read(_LONGEST_OBJECT + 1)
    if len(text) > _LONGEST_OBJECT:
        raise UserError(f"{path} has more than {_LONGEST_OBJECT} characters; it must be one JSON object")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); get the file again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value


def _of_parquet(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if columns and not set(columns) & set(names):
                wanted = " or ".join(columns)
                raise UserError(f"{path} is Parquet without a column {wanted}; it has {', '.join(names)[:200]}")
            for batch in file.iter_batches(_ROWS, use_threads=False):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is Parquet that is cut off or damaged ({error}); get the file again") from None


def _first_character(stream: TextIO) -> str:
    while chunk := stream.read(4096):
        if chunk.strip(_BLANK):
            return chunk.strip(_BLANK)[0]
    return ""


def _of_list(stream: TextIO, path: Path) -> Iterator[Any]:
    decode = json.JSONDecoder().raw_decode
    buffer, at, ended = stream.read(_CHUNK), 0, False
    opened, after_record = False, False
    while True:
        at = _skip_blank(buffer, at)
        if at == len(buffer) and not ended:
            buffer, at = stream.read(_CHUNK), 0
            ended = not buffer
            continue
        mark = buffer[at : at + 1]
        if not opened:  # the caller has seen the bracket
            opened, at = True, at + 1
        elif mark == "]":
            if (buffer[at + 1 :] + stream.read(_CHUNK)).strip(_BLANK):
                raise UserError(f"{path} goes on after the end of its list; get the file again")
            return
        elif after_record and mark == ",":
            after_record, at = False, at + 1
        elif after_record or not mark:
            raise UserError(f"{path} is cut off or damaged inside its list; get the file again")
        else:
            try:
                record, end = decode(buffer, at)
                whole = end < len(buffer) or ended  # a number at the end of a chunk may go on in the next
            except RecursionError:
                raise UserError(f"{path} nests its JSON too deep; get the file again") from None
            except ValueError as error:
                if ended or len(buffer) - at > _LONGEST_RECORD:
                    raise UserError(f"{path} is cut off or damaged inside its list ({error}); get it again") from None
                whole = False
            if whole:
                yield record
                after_record, at = True, end
            else:
                more = stream.read(max(_CHUNK, len(buffer) - at))
                buffer, at, ended = buffer[at:] + more, 0, not more


def _skip_blank(buffer: str, at: int) -> int:
    while at < len(buffer) and buffer[at] in _BLANK:
        at += 1
    return at


def _no_wrapper(records: Iterator[Any], path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """One object without records inside is another kind of file, as dataset_info.json: it is one malformed record."""
    first = list(islice(records, 2))
    if len(first) == 1 and isinstance(first[0], dict) and not set(columns) & set(first[0]):
        wraps = [key for key, value in first[0].items() if isinstance(value, list) and _has_record(value, columns)]
        if wraps or _has_record(first[0].values(), columns):
            held = f"under {', '.join(wraps)[:80]}" if wraps else "by id"
            raise UserError(f"{path} is one object with its records {held}; give them as a list or as JSON lines")
    yield from first
    yield from records


def _has_record(rows: Iterable[Any], columns: Sequence[str]) -> bool:
    return any(isinstance(row, dict) and set(columns) & set(row) for row in rows)


def _of_objects(stream: TextIO, path: Path) -> Iterator[Any]:
    """JSON lines. Objects over several lines too, as jq writes them and some publishers call .jsonl, and several in
    one line, as where files without a last line end were joined."""
    first = True
    for number, line in enumerate(iter(lambda: stream.readline(_LONGEST_RECORD), "")):
        if not line.strip(_BLANK):
            continue
        is_first, first = first, False
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if found := _values(line):
                yield from found
                continue
            if is_first and (found := _whole(path)):
                yield from found
                return
            record = Reject(f"{path.name}:{number}", "record_not_json", str(error)[:200])
        yield record


def _whole(path: Path) -> list[Any] | None:
    with open_text(path) as stream:
        return _values(stream.read(_LONGEST_RECORD))


def _values(text: str) -> list[Any] | None:
    """The JSON objects that stand in a row; None where there is anything else."""
    decode, found, at = json.JSONDecoder().raw_decode, list[Any](), _skip_blank(text, 0)
    while at < len(text):
        try:
            value, at = decode(text, at)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        found.append(value)
        at = _skip_blank(text, at)
    return found
