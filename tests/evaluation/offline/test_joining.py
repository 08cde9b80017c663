"""Answers that repeat their question are joined by its words where their ids are of another numbering, or refused."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.errors import UserError
from components.evaluation.benchmarks import mm_vet
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files
from components.evaluation.offline.words import plain_words
from tests.evaluation.offline.layouts import IN, jsonl, pope, scienceqa, score

THINGS = ("dog", "cat", "car", "bird", "boat", "chair")
LABELLED = [(f"{n}.jpg", IN.format(thing), "yes" if n % 2 else "no") for n in range(4) for thing in THINGS]
CATEGORIES = ("adversarial", "popular", "random")


def pope_sheet(path: Path, **columns: object) -> Path:
    """VLMEvalKit's result sheet: a question of several categories stands once, the index counts from 0."""
    rows = [
        {"index": n, "question": text, "answer": label.title(), "category": ",".join(CATEGORIES), "image_path": image}
        for n, (image, text, label) in enumerate(reversed(LABELLED))
    ]
    frame = pd.DataFrame(rows).assign(prediction=lambda table: table["answer"], **columns)
    frame.to_excel(path, index=False)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    asked = [(category, image, text) for category in CATEGORIES for image, text, _ in LABELLED]
    files = pope(tmp_path / "pope", asked, dict.fromkeys(CATEGORIES, LABELLED))
    lines = files["questions"].read_text().splitlines()
    numbered = [json.loads(line) | {"question_id": n} for n, line in enumerate(lines)]
    return files | {"questions": jsonl(files["questions"], numbered)}


@pytest.mark.parametrize("rule", ["llava", "lmms_eval", "vlmevalkit"])
def test_a_right_pope_sheet_is_right_by_image_and_words(rule: str, files: dict[str, Any], tmp_path: Path) -> None:
    report = score("pope", pope_sheet(tmp_path / "a.xlsx"), rule, **files)
    assert report.answered == [72]
    assert report.metrics["pope"]["f1"] == 100
    assert any("joined by image and words" in line for line in report.findings.lines)


def test_words_that_stand_for_several_questions_are_refused(files: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ids and words contradict .* the words alone stand for several questions"):
        score("pope", pope_sheet(tmp_path / "a.xlsx", image_path=""), **files)


def test_a_pope_sheet_is_scored_by_its_own_columns(tmp_path: Path) -> None:
    report = score("pope", pope_sheet(tmp_path / "a.xlsx", image_path=""))
    assert report.questions == 72
    assert report.metrics["pope"]["f1"] == report.metrics["pope_random"]["f1"] == 100


@pytest.mark.parametrize("lacks", ["answer", "question", "category"])
def test_a_pope_sheet_without_a_column_needs_the_question_file(lacks: str, tmp_path: Path) -> None:
    path = pope_sheet(tmp_path / "a.xlsx")
    pd.read_excel(path).drop(columns=lacks).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UserError, match="pope needs --questions"):
        score("pope", tmp_path / "a.csv")


def test_image_and_words_serve_a_pope_sheet_without_an_index(tmp_path: Path) -> None:
    path = pope_sheet(tmp_path / "a.xlsx")
    frame = pd.read_excel(path).drop(columns="index")
    frame.loc[:5, "prediction"] = "Yes"  # of six, three are no
    frame.to_csv(tmp_path / "a.csv", index=False)
    report = score("pope", tmp_path / "a.csv")
    assert (report.questions, report.answered) == (72, [72])
    assert report.metrics["pope_random"]["yes_ratio"] == score("pope", path).metrics["pope_random"]["yes_ratio"]


def test_answers_to_other_questions_with_the_same_ids_are_refused(files: dict[str, Any], tmp_path: Path) -> None:
    """Every POPE of another image collection numbers its questions alike."""
    others = [{"question_id": n, "prompt": f"Is there a zebra near the {n}th tree?", "text": "Yes"} for n in range(72)]
    with pytest.raises(UserError, match="its words are those of none of the 72 questions"):
        score("pope", jsonl(tmp_path / "a.jsonl", others), **files)


def test_single_answers_against_their_id_are_joined_by_words_or_left_out(tmp_path: Path) -> None:
    labels = [(f"{n}.jpg", IN.format(f"thing{n}"), "yes") for n in range(40)]
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in labels], {"random": labels})
    given = [{"question_id": 100 + n, "prompt": text, "text": "yes"} for n, (_, text, _) in enumerate(labels)]
    given[3] |= {"prompt": labels[4][1], "text": "no"}  # the words of question 104 with the id of 103
    given[7] |= {"prompt": IN.format("zebra")}
    del given[4]
    report = score("pope", jsonl(tmp_path / "a.jsonl", given), **files)
    assert report.findings.unmatched["answers in other words"] == ["103", "107"]
    assert report.findings.unmatched["questions without an answer"] == ["103", "107"]
    assert report.metrics["pope_random"]["accuracy"] == pytest.approx(100 * 37 / 38)


@pytest.mark.parametrize(
    "prompt",
    [
        "USER: <image>\nIs there a dog in the image?\nAnswer the question using a single word or phrase. ASSISTANT:",
        "is there a dog in the image",
        "",
    ],
)
def test_templates_and_punctuation_are_not_other_words(prompt: str, tmp_path: Path) -> None:
    labels = [("1.jpg", IN.format("dog"), "yes"), ("1.jpg", IN.format("cat"), "yes")]
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in labels], {"random": labels})
    report = score(
        "pope", jsonl(tmp_path / "a.jsonl", [{"question_id": 100, "prompt": prompt, "text": "yes"}]), **files
    )
    assert report.answered == [1]
    assert "answers in other words" not in report.findings.unmatched


@pytest.mark.parametrize("swapped", [False, True])
def test_another_layout_of_question_and_options_is_not_other_words(swapped: bool, tmp_path: Path) -> None:
    problems, _ = scienceqa(tmp_path / "sqa")
    held = json.loads(problems.read_text())
    held["1"] |= {"question": "Which is a plant?", "choices": ["fern", "cat"]}
    held["2"] |= {"question": "What melts?", "choices": ["a stone", "ice"]}
    problems.write_text(json.dumps(held))
    prompts = [
        "Question: Which is a plant?\nContext: N/A\nOptions: (A) fern (B) cat",
        "Question: What melts?\nContext: N/A\nOptions: (A) a stone (B) ice",
    ]
    ids = ["2", "1"] if swapped else ["1", "2"]
    given = [{"question_id": i, "prompt": p, "text": t} for i, p, t in zip(ids, prompts, "AB", strict=True)]
    answers = jsonl(tmp_path / "a.jsonl", given)
    if swapped:
        with pytest.raises(UserError, match="ids and words contradict"):
            score("scienceqa", answers, annotations=problems)
    else:
        assert score("scienceqa", answers, annotations=problems).metrics["choice"]["accuracy"] == 100


def test_a_judge_is_shown_no_answer_to_another_question(tmp_path: Path) -> None:
    gold, answers = tmp_path / "mm-vet.json", tmp_path / "a.jsonl"
    gold.write_text(json.dumps({f"v1_{n}": {"question": f"What is {n}?", "answer": "x"} for n in range(20)}))
    jsonl(answers, [{"question_id": n, "prompt": f"What is {n + 1}?", "text": f"{n + 1}"} for n in range(19)])
    asks = list(mm_vet.to_grade(answers, Files(annotations=gold), None, Findings()))
    assert all(f"What is {n}?" in ask.message and f"Prediction: {n}\n" in ask.message for n, ask in enumerate(asks, 1))


def test_plain_words_hold_the_question_alone() -> None:
    text = "<image>\nIs this  a dog? Please answer yes or no.\nAnswer the question using a single word or phrase."
    assert plain_words(text) == "is this a dog"


@pytest.mark.parametrize("first", [0, 1, 7])
def test_ids_without_words_that_are_all_off_by_the_same_are_refused(
    first: int, files: dict[str, Any], tmp_path: Path
) -> None:
    number = len(files["questions"].read_text().splitlines())
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": n + first, "text": "yes"} for n in range(number)])
    if first == 0:
        assert score("pope", answers, **files).answered == [number]
        return
    with pytest.raises(UserError, match=rf"its ids run from {first} to \d+, those of the questions from 0 to"):
        score("pope", answers, **files)
