"""Records out of the values of a JSON file, in whichever shape a script wrote them.

An object of texts is answers by id, an object of records is records by id or (as pandas writes a table) by column, an
object of lists is columns or those lists in turn, and settings around one list of records, or around answers by id, are
no part of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.evaluation.offline.batches import is_batch_line, of_batch_line
from components.evaluation.offline.files import is_parquet, is_table, json_values, plain, table
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.logs import is_log, of_log
from components.evaluation.offline.names import ID_KEYS, TEXT_KEYS, one_text

_OF_A_RECORD = {*ID_KEYS, *TEXT_KEYS, "question", "answer", "messages", "conversations", "doc_id", "custom_id"}


def records_of(path: Path, findings: Findings) -> list[Mapping[str, Any]]:
    """Of a file: the rows of a table as texts, records of JSON and Parquet with their values."""
    if is_table(path, findings) and not is_parquet(path):
        return list(table(path, findings))
    return list(records(json_values(path, findings)))


def records(values: Iterable[Any]) -> Iterable[Mapping[str, Any]]:
    for value in values:
        if isinstance(value, dict) and value:
            yield from map(_plain, _of_object(value))


def _plain(record: Mapping[str, Any]) -> Mapping[str, Any]:
    if is_log(record):
        return of_log(record)
    return of_batch_line(record) if is_batch_line(record) else record


def _of_object(value: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    inner = value.get("outputs", value)
    if isinstance(inner, dict) and not _is_record(inner) and _are_texts(inner):
        yield from ({"question_id": id, "text": text} for id, text in inner.items())
    elif isinstance(value.get("qa"), list):
        yield from answered_pairs(value)
    elif _all(value, dict):
        yield from _of_columns(value) if _is_record(value) else _by_id(value)
    elif _all(value, list):
        if _is_record(value):
            yield from ({name: column[row] for name, column in value.items()} for row in range(_shortest(value)))
        for listed in value.values():
            yield from (record for record in listed if isinstance(record, dict))
    elif not _is_record(value) and len(inside := _holding_answers(value.values())) == 1:
        yield from inside[0] if isinstance(inside[0], list) else _of_object(inside[0])
    else:
        yield value


def answered_pairs(value: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Records of question_id, image, question, answer (the true one) and prediction."""
    image = plain(value.get("img"))
    for number, pair in enumerate(value["qa"]):
        if isinstance(pair, dict):
            yield {"question_id": f"{image}/qa{number}", "image": image, **pair}


def _of_columns(value: Mapping[str, Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """pandas' to_json: {column: {row: cell}}."""
    rows = dict.fromkeys(row for column in value.values() for row in column)
    yield from ({name: column.get(row) for name, column in value.items()} for row in rows)


def _by_id(value: Mapping[str, Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """{id: record}; a record that has an id keeps it."""
    for id, record in value.items():
        yield dict(record) if _names(record) & set(ID_KEYS) else {"question_id": id, **record}


def _names(record: Mapping[str, Any]) -> set[str]:
    return {str(key).strip().lower() for key in record}


def _is_record(value: Mapping[str, Any]) -> bool:
    return bool(_names(value) & _OF_A_RECORD)


def _are_texts(value: Mapping[str, Any]) -> bool:
    """Texts, each perhaps in a list, or null where there is no answer."""
    texts = [one_text(member) for member in value.values()]
    return any(isinstance(text, str) for text in texts) and all(text is None or isinstance(text, str) for text in texts)


def _holding_answers(values: Iterable[Any]) -> list[Any]:
    """Those that are lists of records; where none is, those that are texts by id."""
    values = list(values)
    lists = [one for one in values if isinstance(one, list) and one and all(isinstance(each, dict) for each in one)]
    return lists or [one for one in values if isinstance(one, dict) and not _is_record(one) and _are_texts(one)]


def _shortest(value: Mapping[str, list[Any]]) -> int:
    return min(map(len, value.values()))


def _all(value: Mapping[str, Any], kind: type) -> bool:
    return all(isinstance(member, kind) for member in value.values())
