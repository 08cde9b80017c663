"""Files with wrong values anywhere: a score or one line that says what is wrong, never a traceback."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.data.tasks import INGREDIENTS_QUESTION
from components.errors import UserError
from components.evaluation.offline.printing import as_json, lines
from components.evaluation.offline.questions import Files
from components.evaluation.offline.scoring import score_files
from tests.evaluation.offline.layouts import IN

ODD: tuple[Any, ...] = (None, True, -1, 10**400, 1.5, float("nan"), "", "\ud83d", "x" * 5000, [], [[]], {}, {"a": {}})
LETTERS = {"A": "red", "B": "blue", "C": "green"}
TURNS = [{"form": "question", "value": INGREDIENTS_QUESTION}, {"form": "answer", "value": "rice and egg"}]

FILES: dict[str, dict[str, list[Any]]] = {  # benchmark -> file -> records
    "unifood": {
        "annotations": [
            {"id": "d1", "image": "a.jpg", "ingredients": ["rice"], "instructions": "Boil."},
            {"image": "b.jpg", "conversations": TURNS},
        ],
        "answers": [
            {"question_id": "d1/ingredients", "text": "rice"},
            {"img": "b.jpg", "qa": [{"question": INGREDIENTS_QUESTION, "answer": "rice", "prediction": "rice"}]},
        ],
    },
    "scienceqa": {
        "annotations": [{"id": "1", "conversations": [{"from": "human", "value": "Which?"}, {"value": "A"}]}],
        "answers": [{"question_id": "1", "prompt": "Which?", "text": "A"}, {"outputs": {"1": "B"}}],
    },
    "pope": {
        "questions": [{"question_id": 1, "image": "1.jpg", "text": IN.format("dog"), "category": "random"}],
        "annotations": [{"question_id": 1, "image": "1.jpg", "text": IN.format("dog"), "label": "yes"}],
        "answers": [
            {"question_id": 1, "prompt": IN.format("dog"), "text": "yes", "category": "random", "image": "1.jpg"}
        ],
    },
    "mmbench": {
        "annotations": [
            {"index": n, "question": "Which?", **LETTERS, "answer": "A", "category": "c"} for n in (1, 1000001)
        ],
        "answers": [{"index": 1, "prediction": "A", "question": "Which?"}, {"question_id": 1000001, "text": "A"}],
    },
    "seed_bench": {
        "annotations": [{"question_id": "1", "question": "Which?", "choice_a": "x", "choice_b": "y", "answer": "A"}],
        "answers": [{"question_id": "1", "prediction": "A"}],
    },
    "mm_vet": {
        "annotations": [{"v1_0": {"question": "What?", "answer": "x", "capability": ["ocr"], "imagename": "a.png"}}],
        "answers": [{"v1_0": {"model": ["gpt"], "content": ["1"], "score": [1.0, 0.5]}}],
    },
    "llava_bench": {
        "questions": [{"question_id": 0, "image": "1.jpg", "category": "conv", "text": "What?"}],
        "answers": [{"question_id": 0, "category": "llava_bench_conv", "tuple": [8, 6], "content": "8 6"}],
    },
}
TRIED = 120
NAMES = {"pope": {"annotations": "coco_pope_random.json"}}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield from places(member, (*path, key))


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    if not path:
        return to
    value = copy.copy(value)
    value[path[0]] = changed(value[path[0]], path[1:], to)
    return value


def written(folder: Path, name: str, change: Callable[[str, list[Any]], Any]) -> Files:
    paths = {}
    for kind, records in FILES[name].items():
        path = folder / NAMES.get(name, {}).get(kind, f"{kind}.jsonl")
        path.write_text("".join(json.dumps(record) + "\n" for record in change(kind, records)))
        paths[kind] = path
    answers = paths.pop("answers")
    return Files(answers=(answers,), **paths)


@pytest.mark.parametrize("name", FILES)
def test_sound_files_are_scored(name: str, tmp_path: Path) -> None:
    report = score_files(name, written(tmp_path, name, lambda kind, records: records), None)
    assert report.metrics


@pytest.mark.parametrize("name", FILES)
def test_wrong_values_are_a_score_or_a_line(name: str, tmp_path: Path) -> None:
    cases = [
        (kind, path, odd) for kind, records in FILES[name].items() for path in places(records) if path for odd in ODD
    ]
    for kind, path, odd in random.Random(1).sample(cases, min(len(cases), TRIED)):

        def change(of: str, records: list[Any], kind: str = kind, path: tuple[Any, ...] = path, odd: Any = odd) -> Any:
            return changed(records, path, odd) if of == kind else records

        line = mistake(name, written(tmp_path, name, change))
        assert "\n" not in line, (kind, path, odd)


def mistake(name: str, files: Files) -> str:
    """The line of a UserError, nothing where the files are scored; everything else is a fault."""
    try:
        report = score_files(name, files, None)
        json.dumps(as_json(report))
        return "".join(lines(report)).replace("\n", " ")
    except UserError as error:
        return str(error)
