"""Which of a file's columns hold the answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.data.tasks import CAPTION_QUESTION
from components.errors import UserError
from components.evaluation.offline.answers import read_answers
from components.evaluation.offline.findings import Findings
from tests.evaluation.offline.layouts import LABELS, jsonl, pope, score


def files(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """POPE's files, and the records of its question file with what is right of each under `right`."""
    given = pope(folder, [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    records = [json.loads(line) for line in given["questions"].read_text().splitlines()]
    return given, [record | {"right": label} for record, (_, _, label) in zip(records, LABELS, strict=True)]


@pytest.mark.parametrize("name", ["prediction", "response", "output", "caption"])
def test_answers_added_to_a_question_file_are_read_and_not_its_questions(tmp_path: Path, name: str) -> None:
    given, records = files(tmp_path)
    answers = jsonl(tmp_path / "a.jsonl", [record | {name: record["right"]} for record in records])
    assert score("pope", answers, **given).metrics["pope"] == {"f1": 100, "accuracy": 100}


def test_the_one_question_of_all_images_is_no_caption(tmp_path: Path) -> None:
    images = [{"filename": f"{n}.jpg", "split": "test", "sentences": [{"raw": f"A {n} on grass."}]} for n in (11, 12)]
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    said = [{"image": f"{n}.jpg", "text": CAPTION_QUESTION, "response": f"A {n} on grass."} for n in (11, 12)]
    report = score("flickr30k", jsonl(tmp_path / "a.jsonl", said), annotations=tmp_path / "dataset_flickr30k.json")
    assert report.metrics["caption"]["rouge_l"] == 100


def test_a_question_file_is_no_file_of_answers(tmp_path: Path) -> None:
    given, records = files(tmp_path)
    with pytest.raises(UserError, match="its texts are the questions themselves; give the model's answers"):
        score("pope", given["questions"], **given)
    answers = jsonl(tmp_path / "a.jsonl", [record | {"answer": record["right"]} for record in records])
    with pytest.raises(UserError, match="in a column prediction where the question stands in text"):
        score("pope", answers, **given)


@pytest.mark.parametrize("name", ["label", "gt_answer", "gt_answers", "ground_truth", "annotation"])
def test_answer_is_the_model_s_where_what_is_right_stands_beside_it(tmp_path: Path, name: str) -> None:
    given, records = files(tmp_path)
    answers = jsonl(
        tmp_path / "a.jsonl",
        [
            {"question_id": one["question_id"], "question": one["text"], "answer": "yes", name: one["right"]}
            for one in records
        ],
    )
    assert score("pope", answers, **given).metrics["pope_random"]["yes_ratio"] == 100


def test_answers_in_popes_label_file_are_read(tmp_path: Path) -> None:
    given, records = files(tmp_path)
    answers = [record | {"label": record["right"], "answer": "yes"} for record in records]
    assert score("pope", jsonl(tmp_path / "a.jsonl", answers), **given).metrics["pope_random"]["yes_ratio"] == 100


def test_an_answer_without_what_is_right_beside_it_may_be_right_itself(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "a.jsonl", [{"question_id": n, "answer": "A"} for n in range(3)])
    with pytest.raises(UserError, match="found question_id, answer"):
        read_answers(gold, Findings())


def test_the_image_itself_is_no_id(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"image": "A" * 2000, "filename": f"{n}.jpg", "text": "x"} for n in range(2)])
    assert [answer.id for answer in read_answers(path, Findings())] == ["0.jpg", "1.jpg"]
