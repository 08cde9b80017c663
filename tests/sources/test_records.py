"""JSON comes in several layouts and with damage; a list is read piece by piece."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.sources import records
from components.sources.entry import Reject

ITEMS: list[Any] = [{"id": 1, "text": 'ä ] [ , " \\ \n'}, {"id": 2, "nested": [[1], {"a": "}"}]}, 12, "x"]


def read(path: Path) -> list[Any]:
    return [record for _, record in records.read_records(path)]


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_list_is_read_whatever_the_chunk(tmp_path, monkeypatch, chunk: int, indent: int | None, bom: bytes):
    monkeypatch.setattr(records, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_bytes(bom + b"\r\n " + json.dumps(ITEMS, ensure_ascii=False, indent=indent).encode() + b"\n")
    assert read(path) == ITEMS


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_lines_are_read_and_a_bad_one_is_named(tmp_path, bom: bytes):
    path = tmp_path / "a.jsonl"
    path.write_bytes(bom + b'{"id": 1}\n\n{"id": \n{"id": 3}\r\n')
    first, bad, last = read(path)
    assert (first, last) == ({"id": 1}, {"id": 3})
    assert isinstance(bad, Reject)
    assert (bad.id, bad.reason) == ("a.jsonl:2", "record_not_json")


def test_one_pretty_object_called_jsonl_is_one_record(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": 1, "text": "x"}, indent=4))
    assert read(path) == [{"id": 1, "text": "x"}]


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 1}\n{"id": 2}{"id": 3}\n',  # files joined, of which one lacks its last line end
        '{"id": 1}\r{"id": 2}\r{"id": 3}\r',  # of old Macs
        '{\n  "id": 1\n}\n{\n  "id": 2\n}\n{\n  "id": 3\n}\n',  # jq
        '\n{\n"id": 1}{"id": 2}\n\n{"id": 3}',
    ],
)
def test_objects_in_a_row_are_records_of_their_own(tmp_path, text: str):
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode())
    assert read(path) == [{"id": 1}, {"id": 2}, {"id": 3}]


@pytest.mark.parametrize("line", ['{"id": 1} {"id": ', '{"id": 1}, {"id": 2}', '{"id": 1} 2', "1 2"])
def test_a_line_with_anything_but_objects_is_one_bad_record(tmp_path, line: str):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"id": 0}}\n{line}\n')
    good, bad = read(path)
    assert (good, bad.reason) == ({"id": 0}, "record_not_json")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"data": [{"messages": []}] * 3}, "under data;"),
        ({"info": {}, "train": [{"messages": []}], "test": [{"messages": []}]}, "under train, test;"),
        ({"1": {"messages": []}, "2": {"messages": []}}, "by id;"),
    ],
)
def test_one_object_that_holds_the_records_is_refused(tmp_path, held: Any, said: str, indent: int | None):
    """It would be one rejected record among those of other files, whatever it holds."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(held, indent=indent))
    with pytest.raises(UserError, match=rf"a\.json is one object with its records {said} give them as a list"):
        list(records.read_records(path, ("messages",)))


@pytest.mark.parametrize(
    "record",
    [{"messages": [{"role": "user"}]}, {"id": 1, "info": [{"id": 1}]}, {"a": {"columns": {"messages": "x"}}}, {}],
)
def test_one_record_alone_is_read(tmp_path, record: Any):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(record))
    assert [found for _, found in records.read_records(path, ("messages",))] == [record]


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 1}, {"id',
        '[{"id": 1}',
        '[{"id": 1} {"id": 2}]',
        "[1, 2] 3",
        "[",
        "[1,, 2]",
        "[" * 100_000,
        "[1" + "0" * 5000,
    ],
)
def test_list_that_is_damaged_is_refused(tmp_path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.json"):
        read(path)


def test_empty_file_and_empty_list_hold_nothing(tmp_path):
    for text in ("", " \n", "[]"):
        (tmp_path / "a.json").write_text(text)
        assert read(tmp_path / "a.json") == []
