"""Reading published files, which are often not what their ending says.

JSON, JSON lines, Parquet and spreadsheets are distinguished by what stands in them: a .jsonl may be one pretty-printed
object, a .json may be JSON lines (with commas behind them), an .xlsx may be CSV, and each may be packed. What can be
read is read; what cannot is a note of the findings, or named.
"""

from __future__ import annotations

import base64
import io
import json
import stat
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.evaluation.offline.delimited import plain_names, rows_of
from components.evaluation.offline.findings import Findings
from components.images.kinds import HEAD, kind_of
from components.sources.text_files import NO_TEXT, encoding_of, is_packed, most_unpacked, too_large, unpacked

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_READ = "JSON, JSON lines, delimited text, .xlsx and Parquet are read, also in gzip, bzip2, xz or lzma"
_BATCH = 1024  # rows
_ROW = 256  # bytes that a row takes at least
_DAMAGE = (ValueError, RecursionError)


def json_values(path: Path, findings: Findings) -> list[Any]:
    """The values of a file: its lines, or the members of its lists, or its one value."""
    data = _bytes(path)
    if kind_of(data[:HEAD]) == "Parquet":
        return _parquet(data, path)
    text = _text(data, path, findings).strip()
    try:
        value = json.loads(text)
        return value if isinstance(value, list) else [value]
    except _DAMAGE:
        pass
    values, lost = _of_lines(text)
    if len(values) <= len(lost):
        values, whole = _one_after_another(text)
        lost = []
        if not whole:
            values = values if len(values) > 1 else _before_damage(text)
            if not values:
                raise UserError(f"{path} holds no JSON that can be read; it begins with {text[:40]!r}")
            findings.note(f"{path} is cut off or damaged: only the {len(values)} entries before that could be read")
    for number in lost[:1]:
        findings.note(f"{path}: {len(lost)} lines are no JSON (the first is line {number}; cut off?) and were left out")
    return [member for value in values for member in (value if isinstance(value, list) else [value])]


def table(path: Path, findings: Findings) -> list[dict[str, str]]:
    """The rows of a spreadsheet, of Parquet, of delimited text, or of JSON records; values as text, "" where empty."""
    data = _bytes(path)
    kind = kind_of(data[:HEAD])
    if kind in ("zip", "Parquet"):
        rows = _spreadsheet(data, path) if kind == "zip" else _parquet(data, path)
    else:
        text = _text(data, path, findings)
        if text.lstrip()[:1] not in ("{", "["):
            return rows_of(text, path, findings)
        rows = [row for row in json_values(path, findings) if isinstance(row, dict)]
    return [dict(zip(plain_names(row), map(plain, row.values()), strict=True)) for row in rows]


def is_table(path: Path, findings: Findings) -> bool:
    """A spreadsheet, Parquet or delimited text, whatever it is called."""
    data = _bytes(path)
    kinds = ("zip", "Parquet")
    return kind_of(data[:HEAD]) in kinds or _text(data, path, findings).lstrip()[:1] not in ("{", "[")


def is_parquet(path: Path) -> bool:
    return kind_of(_bytes(path)[:HEAD]) == "Parquet"


def text_lines(path: Path, findings: Findings) -> list[str]:
    """The lines of a text file, which may be empty."""
    return _text(_read(path), path, findings).splitlines()


def plain(value: Any) -> str:
    """A cell or field as text; 241.0, as spreadsheets keep whole numbers, is 241."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def _bytes(path: Path) -> bytes:
    data = _read(path)
    if not data.strip():
        raise UserError(f"{path} is empty")
    return data


def _read(path: Path) -> bytes:
    """The file's bytes, unpacked where it is packed."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")
    try:
        about = path.stat()
        if stat.S_ISREG(about.st_mode):
            key = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
            return _of_packed(path, key) if is_packed(path) else path.read_bytes()
        return _of_pipe(path, about.st_dev, about.st_ino)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None


@lru_cache(maxsize=1)
def _of_packed(path: Path, key: tuple[int, ...]) -> bytes:
    """A file is looked at several times in a row, and unpacked once. key: changes when the file does."""
    return unpacked(path.read_bytes(), path)


@lru_cache(maxsize=8)
def _of_pipe(path: Path, device: int, inode: int) -> bytes:
    """A pipe gives its bytes once, and files are looked at several times."""
    return unpacked(path.read_bytes(), path)


def _text(data: bytes, path: Path, findings: Findings) -> str:
    kind = kind_of(data[:HEAD])
    if kind in NO_TEXT:
        raise UserError(f"{path} is {kind}{' (a spreadsheet?)' if kind == 'zip' else ''}; {_READ}")
    encoding = encoding_of(data[:HEAD], kind)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in data[:1000] and kind is None:
            raise UserError(f"{path} is neither text nor an .xlsx spreadsheet") from None
        name = encoding.removesuffix("-sig")
        findings.note(f"{path} is not whole {name} text (byte {error.start}); what is not stands as \ufffd")
        return data.decode(encoding, errors="replace")


def _of_lines(text: str) -> tuple[list[Any], list[int]]:
    """Values of JSON lines, perhaps with commas behind them and brackets around; numbers of the lines that are none."""
    values, lost = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        piece = line.strip().strip("\ufeff").rstrip(",")  # files put together keep each one's mark
        if piece in ("", "[", "]"):
            continue
        try:
            values.append(json.loads(piece))
        except _DAMAGE:
            lost.append(number)
    return [value for value in values if isinstance(value, dict | list)], lost


def _one_after_another(text: str) -> tuple[list[Any], bool]:
    """Objects or lists of several lines each, nothing between them; and whether that is the whole text."""
    decode = json.JSONDecoder().raw_decode
    values: list[Any] = []
    at = 0
    try:
        while at < len(text):
            value, at = decode(text, at)
            values.append(value)
            while at < len(text) and text[at] in " \t\r\n,":
                at += 1
    except _DAMAGE:
        return [value for value in values if isinstance(value, dict | list)], False
    return values, all(isinstance(value, dict | list) for value in values)


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


def _spreadsheet(data: bytes, path: Path) -> list[dict[str, Any]]:
    import pandas as pd

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > (most := most_unpacked(len(data))):
            raise too_large(path, "a spreadsheet", most, "export it as CSV")
        frame = pd.read_excel(io.BytesIO(data), dtype=object, keep_default_na=False, engine="openpyxl")
    except UserError:
        raise
    except Exception as error:  # whatever a damaged archive makes of it
        raise UserError(f"{path} is not a spreadsheet that can be read ({error}); get the file again") from None
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _parquet(data: bytes, path: Path) -> list[dict[str, Any]]:
    """Rows; images, which data sets keep as bytes, as base64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = _unpacked_rows(pq.ParquetFile(io.BytesIO(data)), path, most_unpacked(len(data)))
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is Parquet that is cut off or damaged ({str(error)[:80]}); get the file again"
        ) from None
    return [{key: _as_text(value) for key, value in row.items()} for row in rows]


def _unpacked_rows(file: pq.ParquetFile, path: Path, most: int) -> list[dict[str, Any]]:
    """UserError where they are more than `most` bytes, by the footer or (a value may repeat) as read."""
    too_many = too_large(path, "Parquet", most, "give its rows as JSON lines")
    groups = range(file.metadata.num_row_groups)
    if sum(file.metadata.row_group(n).total_byte_size for n in groups) > most:
        raise too_many
    rows: list[dict[str, Any]] = []
    size = 0
    for batch in file.iter_batches(batch_size=_BATCH):
        columns = [c.dictionary_decode() if hasattr(c, "dictionary_decode") else c for c in batch.columns]
        size += sum(column.nbytes for column in columns) + batch.num_rows * _ROW
        if size > most:
            raise too_many
        rows += batch.to_pylist()
    return rows


def _as_text(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
