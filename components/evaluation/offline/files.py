"""Reading published files, which are often not what their ending says.

JSON, JSON lines and spreadsheets are distinguished by what stands in them: a .jsonl may be one pretty-printed
object, a .json may be JSON lines (with commas behind them), an .xlsx may be CSV. What can be read is read; what
cannot is a note of the findings.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.evaluation.offline.findings import Findings

_ZIP = b"PK\x03\x04"  # how an .xlsx begins
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_LARGEST_FIELD = 1 << 27  # characters; MMBench keeps images as text in its tables
_DAMAGE = (ValueError, RecursionError)


def json_values(path: Path, findings: Findings) -> list[Any]:
    """The values of a file: its lines, or the members of its list, or its one value."""
    text = _text(path, findings).strip()
    try:
        value = json.loads(text)
        return value if isinstance(value, list) else [value]
    except _DAMAGE:
        pass
    values, lost = _of_lines(text)
    if len(values) <= len(lost):
        values, lost = _before_damage(text), []
        if not values:
            raise UserError(f"{path} holds no JSON that can be read; it begins with {text[:40]!r}")
        findings.note(f"{path} is cut off or damaged: only the {len(values)} entries before that could be read")
    for number in lost[:1]:
        findings.note(f"{path}: {len(lost)} lines are no JSON (the first is line {number}; cut off?) and were left out")
    return values


def table(path: Path, findings: Findings) -> list[dict[str, str]]:
    """The rows of a spreadsheet, of delimited text, or of JSON records; every value as text, "" where empty."""
    start = _bytes(path)[: len(_ZIP)]
    if start == _ZIP:
        return _spreadsheet(path)
    text = _text(path, findings)
    if text.lstrip()[:1] in ("{", "["):
        rows = [row for row in json_values(path, findings) if isinstance(row, dict)]
        return [{key: plain(value) for key, value in row.items()} for row in rows]
    return _delimited(text, path, findings)


def is_table(path: Path, findings: Findings) -> bool:
    """A spreadsheet or delimited text, whatever it is called."""
    return _bytes(path)[: len(_ZIP)] == _ZIP or _text(path, findings).lstrip()[:1] not in ("{", "[")


def plain(value: Any) -> str:
    """A cell or field as text; 241.0, as spreadsheets keep whole numbers, is 241."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def plain_names(names: Iterable[Any]) -> list[str]:
    """Names of columns or keys without blanks around, in one case: letters large, words small (Prediction: prediction).

    A name stays as it is where another already stands so.
    """
    given = [str(name) for name in names]
    plain = [name.strip().lower() if len(name.strip()) > 1 else name.strip().upper() for name in given]
    taken = set(given)
    return [old if new in taken or plain.count(new) > 1 else new for old, new in zip(given, plain, strict=True)]


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    if not data.strip():
        raise UserError(f"{path} is empty")
    return data


def _text(path: Path, findings: Findings) -> str:
    data = _bytes(path)
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in data[:1000]:
            raise UserError(f"{path} is neither text nor an .xlsx spreadsheet") from None
        findings.note(f"{path} is not whole {encoding} text (byte {error.start}); what is not stands as \ufffd")
        return data.decode(encoding, errors="replace")


def _of_lines(text: str) -> tuple[list[Any], list[int]]:
    """Values of JSON lines, perhaps with commas behind them and brackets around; numbers of the lines that are none."""
    values, lost = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        piece = line.strip().rstrip(",")
        if piece in ("", "[", "]"):
            continue
        try:
            values.append(json.loads(piece))
        except _DAMAGE:
            lost.append(number)
    return [value for value in values if isinstance(value, dict | list)], lost


def _before_damage(text: str) -> list[Any]:
    """Members of a list, or one object of the pairs, that stand whole before the place where a file is cut off."""
    decode = json.JSONDecoder().raw_decode
    kept: list[Any] = []
    pairs: dict[str, Any] = {}
    at = 1
    try:
        while True:
            at = _next(text, at)
            if text[:1] == "[":
                value, at = decode(text, at)
                kept.append(value)
            else:
                key, at = decode(text, at)
                value, at = decode(text, _next(text, at))
                pairs[key] = value
    except (*_DAMAGE, IndexError, TypeError):
        return kept or ([pairs] if pairs else [])


def _next(text: str, at: int) -> int:
    while text[at] in " \t\r\n,:":
        at += 1
    return at


def _spreadsheet(path: Path) -> list[dict[str, str]]:
    import pandas as pd

    try:
        frame = pd.read_excel(path, dtype=object, keep_default_na=False, engine="openpyxl")
    except Exception as error:  # whatever a damaged archive makes of it
        raise UserError(f"{path} is not a spreadsheet that can be read ({error}); get the file again") from None
    rows = frame.to_dict("records")
    return [{str(key): plain(value) for key, value in row.items()} for row in rows]


def _delimited(text: str, path: Path, findings: Findings) -> list[dict[str, str]]:
    head = text.split("\n", 1)[0]
    mark = "\t" if "\t" in head else ","
    if mark not in head:
        raise UserError(f"{path} is neither JSON nor a table; it begins with {head[:40]!r}")
    csv.field_size_limit(_LARGEST_FIELD)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=mark)
    names = next(lines)
    rows = [line for line in lines if line]
    whole = [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]
    if len(whole) < len(rows):
        findings.note(f"{path}: {len(rows) - len(whole)} rows have not the header's {len(names)} columns; left out")
    return whole
