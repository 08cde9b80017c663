"""MME: eval_tool/calculation.py; figures worked out by hand."""

import json
from pathlib import Path

import pytest

from components.errors import UserError
from tests.evaluation.offline.layouts import SAID, jsonl, mme, mme_answers, score


def test_mme_adds_accuracy_and_accuracy_plus(tmp_path: Path) -> None:
    report = score("mme", mme_answers(tmp_path / "a.jsonl", SAID), annotations=mme(tmp_path / "gt"))
    assert report.metrics["mme_count"] == {"score": 75 + 50, "accuracy": 75, "accuracy_plus": 50}
    assert report.metrics["mme_OCR"]["score"] == 50 + 0
    assert report.metrics["mme"] == {"perception": 175, "cognition": 200}
    assert any("no ground truth for existence" in line for line in report.findings.lines)


def test_mme_leaves_out_both_questions_of_a_half_answered_image(tmp_path: Path) -> None:
    half = {key: text for key, text in SAID.items() if key != "count/2.jpg Is it two?"}
    report = score("mme", mme_answers(tmp_path / "a.jsonl", half), annotations=mme(tmp_path / "gt"))
    assert report.metrics["mme_count"]["score"] == 200
    assert report.other["mme_count"] == {"score": 50 + 50, "accuracy": 50, "accuracy_plus": 50}


def test_mme_own_folders_of_answers_are_read(tmp_path: Path) -> None:
    filled = mme(tmp_path / "filled")
    for file in filled.glob("*.txt"):
        file.write_text(file.read_text().replace("\tmore", "\tYes"))
    report = score("mme", filled, annotations=filled)
    assert report.metrics["mme_count"] == {"score": 50, "accuracy": 50, "accuracy_plus": 0}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig"])
def test_mme_is_read_in_every_encoding(encoding: str, tmp_path: Path) -> None:
    folder = mme(tmp_path / "gt")
    for file in folder.glob("*.txt"):
        file.write_text(file.read_text(), encoding=encoding)
    (folder / "posters.txt").write_text("")
    report = score("mme", mme_answers(tmp_path / "a.jsonl", SAID), annotations=folder)
    assert report.metrics["mme"] == {"perception": 175, "cognition": 200}
    (folder / "count.txt").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(99))
    with pytest.raises(UserError, match=r"count\.txt is 7z"):
        score("mme", mme_answers(tmp_path / "a.jsonl", SAID), annotations=folder)


@pytest.mark.parametrize(
    "form", ["<image>\n{}", "USER: <image>\n{} ASSISTANT:", "{}\nAnswer the question with yes or no."]
)
def test_mme_prompts_in_other_templates_are_the_same_questions(tmp_path: Path, form: str) -> None:
    gold, plain = mme(tmp_path / "gt"), mme_answers(tmp_path / "a.jsonl", SAID)
    records = [json.loads(line) for line in plain.read_text().splitlines()]
    for record in records:
        record["prompt"] = form.format(record["prompt"].partition("\n")[0])
    report = score("mme", jsonl(tmp_path / "b.jsonl", records), annotations=gold)
    assert report.metrics == score("mme", plain, annotations=gold).metrics


def test_mme_answers_without_their_questions_are_refused(tmp_path: Path) -> None:
    gold = mme(tmp_path / "gt")
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": "count/1.jpg", "text": "yes"}] * 2)
    with pytest.raises(UserError, match="is the id of several and no answer's prompt is one of theirs"):
        score("mme", answers, annotations=gold)
