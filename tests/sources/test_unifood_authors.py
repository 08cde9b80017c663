"""UniFood's source in the form that the authors' code reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.data.tasks import NUTRITION_FIELDS, nutrition_answer
from components.params import Source
from components.sources import SOURCES
from components.sources.entry import Entry, Reject
from tests.raw import unifood_record


def read_json(folder: Path, records: Any) -> tuple[list[Entry], list[Reject]]:
    (folder / "a.json").write_text(json.dumps(records))
    read = list(SOURCES["unifood"](Source(kind="unifood", path=str(folder), annotations="a.json", images=".")))
    return [e for e in read if isinstance(e, Entry)], [r for r in read if isinstance(r, Reject)]


def pairs(*values: str) -> list[dict[str, str]]:
    return [{"form": "answer" if n % 2 else "question", "value": value} for n, value in enumerate(values)]


def test_unifood_reads_the_authors_json(tmp_path: Path) -> None:
    """One sample for each pair; the marker before any question, or none; no image."""
    asked = ["Can you list the ingredients present in this dish?", "<image>\nHow to make this dish?"]
    said = ["The ingredients include rice and egg.", "The instructions are as follows: Boil it."]
    nutrition = ["<image>\nWhat is the nutrition?", nutrition_answer(dict.fromkeys(map(str, NUTRITION_FIELDS), 12.0))]
    records = [
        {"image": "a.jpg", "conversations": pairs(asked[0], said[0], asked[1], said[1], *nutrition)},
        {"image": "b.jpg", "conversations": pairs("<image>\nIs it fresh?", "Yes.")},
        {"conversations": pairs("What is a wok?", "A pan.")},
        {"image": None, "image_path": "c.jpg", "conversations": pairs("<image>\nIs it fresh?", "Yes.")},
    ]
    entries, rejects = read_json(tmp_path, records)
    assert not rejects
    assert [[s.task for s in e.samples] for e in entries] == [
        ["ingredients", "recipe", "nutrition"],
        ["chat"],
        ["chat"],
        ["chat"],
    ]
    assert [s.id for s in entries[0].samples] == ["a.jpg/qa0", "a.jpg/qa1", "a.jpg/qa2"]
    assert [[t.text for t in s.turns] for s in entries[0].samples[:2]] == [
        [f"<image>\n{asked[0]}", said[0]],
        [asked[1], said[1]],
    ]
    assert json.loads(entries[0].samples[0].gold or "") == ["egg", "rice"]
    assert entries[0].group == "unifood:a.jpg"
    assert entries[2].image is None
    assert entries[2].samples[0].turns[0].text == "What is a wok?"
    assert entries[3].image == "c.jpg"


def test_unifood_authors_records_keep_their_declared_split(tmp_path: Path) -> None:
    records = [{"image": "a.jpg", "split": "val", "conversations": pairs("Is it fresh?", "Yes.")}]
    [entry], _ = read_json(tmp_path, records)
    assert entry.split == "validation"


def test_unifood_question_about_an_image_that_is_not_there_is_rejected(tmp_path: Path) -> None:
    entries, rejects = read_json(tmp_path, [{"conversations": pairs("<image>\nIs it fresh?", "Yes.")}])
    assert (entries, [reject.reason for reject in rejects]) == ([], ["marker_without_image"])


def test_unifood_fields_are_read_beside_an_empty_column_of_conversations(tmp_path: Path) -> None:
    entries, rejects = read_json(tmp_path, [{**unifood_record(1), "conversations": None}])
    assert (len(entries), rejects) == (1, [])


@pytest.mark.parametrize(
    "turns",
    [
        [],
        pairs("one?"),
        pairs("one?", "two", "three?"),
        pairs("a?", "b")[::-1],
        [{"from": "human", "value": "x"}] * 2,
        3,
    ],
)
def test_unifood_pairs_that_are_none_are_rejected(tmp_path: Path, turns: Any) -> None:
    entries, rejects = read_json(tmp_path, [{"image": "a.jpg", "conversations": turns}])
    assert (entries, [reject.reason for reject in rejects]) == ([], ["record_malformed"])
