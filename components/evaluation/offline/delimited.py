"""Tables as delimited text, as spreadsheets and scripts export them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.evaluation.offline.findings import Findings

_DELIMITERS = "\t,;|"
_LARGEST_FIELD = 1 << 27  # characters; MMBench keeps images as text in its tables
_IDS = ("index", "question_id", "id", "image_id")


def rows_of(text: str, path: Path, findings: Findings) -> list[dict[str, str]]:
    """Rows by the header's names. UserError where the first line is no header."""
    text, mark = _without_excels_line(text)
    csv.field_size_limit(_LARGEST_FIELD)
    try:
        head = re.split(r"\r\n?|\n", text, maxsplit=1)[0]
        mark = mark or _delimiter(head)
        if mark not in head:
            raise UserError(f"{path} is neither JSON nor a table; it begins with {head[:40]!r}")
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
        names = plain_names(next(lines))
        rows = _as_they_stand(text, mark, len(names)) or [line for line in lines if line]
    except csv.Error as error:
        raise UserError(f"{path} is no delimited text that can be read ({error}); export it again as CSV") from None
    whole = [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]
    if len(whole) < len(rows):
        findings.note(f"{path}: {len(rows) - len(whole)} rows have not the header's {len(names)} columns; left out")
    return _with_plain_ids(whole)


def _as_they_stand(text: str, mark: str, width: int) -> list[list[str]]:
    """The rows of text between tabs in which a quote quotes nothing: each line has all columns, and csv would find
    fewer rows, because a quote that begins a cell and never ends holds the lines behind it. Else none.
    """
    if mark != "\t":
        return []
    rows = [line.split(mark) for line in re.split(r"\r\n?|\n", text)[1:] if line]
    if any(len(row) != width for row in rows):
        return []
    quoted = sum(1 for line in csv.reader(io.StringIO(text, newline=""), delimiter=mark) if line) - 1
    return rows if quoted < len(rows) else []


def _without_excels_line(text: str) -> tuple[str, str]:
    """Excel may begin with a line that names the delimiter: sep=;"""
    found = re.match(r'\ufeff?"?sep=([^\r\n])"?(?:\r\n?|\n)', text, re.IGNORECASE)
    return (text[found.end() :], found[1]) if found else (text, "")


def _delimiter(head: str) -> str:
    """The first by which the header has the name of an id; else the first that stands in it."""
    by_id = (mark for mark in _DELIMITERS if not {*_IDS, "image"}.isdisjoint(_names(head, mark)))
    return next(by_id, None) or next((mark for mark in _DELIMITERS if mark in head), ",")


def _names(head: str, mark: str) -> list[str]:
    names = next(csv.reader([head], delimiter=mark), [])
    return plain_names(names) if len(names) > 1 else []


def _with_plain_ids(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Ids without blanks around; 241.0, as numbers beside empty cells are written, is 241 where all are such."""
    for key in _IDS:
        ids = [row[key].strip() for row in rows if key in row]
        if ids and all(re.fullmatch(r"\d+\.0+|", id) for id in ids):
            ids = [id.partition(".")[0] for id in ids]
        if ids:
            rows = [{**row, key: id} for row, id in zip(rows, ids, strict=True)]
    return rows


def plain_names(names: Iterable[Any]) -> list[str]:
    """Names of columns or keys without blanks around, in one case: letters large, words small (Prediction: prediction).

    A name stays as it is where another already stands so.
    """
    given = [str(name) for name in names]
    plain = [name.strip().lower() if len(name.strip()) > 1 else name.strip().upper() for name in given]
    taken = set(given)
    return [old if new in taken or plain.count(new) > 1 else new for old, new in zip(given, plain, strict=True)]
