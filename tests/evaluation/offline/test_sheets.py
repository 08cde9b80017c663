"""Answers whose own file says what is right: VLMEvalKit's sheets, InternVL's lines, lmms-eval's samples."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.errors import UserError
from tests.evaluation.offline.layouts import IN, jsonl, score

LETTERS = "ABCA"
CHOICES = [
    {
        "index": n,
        "question": f"Which of {n}?",
        "A": f"x{n}",
        "B": f"y{n}",
        "C": f"z{n}",
        "answer": right,
        "category": "hue",
    }
    for n, right in enumerate(LETTERS)
]
SAID = "ABBA"  # three of four are right
MME = [
    {"index": 2 * n + k, "category": subtask, "image_path": f"{subtask}/{n % 2}.jpg", "question": q, "answer": label}
    for n, subtask in enumerate(["count", "count", "OCR", "OCR"])
    for k, (q, label) in enumerate([("Is it one? Please answer yes or no.", "Yes"), ("Is it two?", "No")])
]
POPE = [
    {"index": n, "question": IN.format("dog"), "answer": label, "category": "random,popular", "image_path": f"{n}.jpg"}
    for n, label in enumerate(["Yes", "No", "Yes", "No"])
]


def written(folder: Path, rows: list[dict[str, Any]], form: str) -> Path:
    path = folder / f"rows.{form}"
    if form == "json":
        path.write_text(json.dumps(rows))
    elif form == "jsonl":
        jsonl(path, rows)
    elif form == "tsv":
        pd.DataFrame(rows).to_csv(path, sep="\t", index=False)
    elif form == "csv":
        pd.DataFrame(rows).to_csv(path, sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    else:
        pd.DataFrame(rows).to_excel(path, index=False)
    return path


FORMS = pytest.mark.parametrize("form", ["xlsx", "tsv", "csv", "json", "jsonl"])


@FORMS
@pytest.mark.parametrize(("name", "task", "metric"), [
    ("seed_bench", "seed_image", "accuracy"), ("scienceqa", "choice", "accuracy"), ("mmbench", "mmbench", "single"),
])  # fmt: skip
def test_multiple_choice_is_scored_by_its_own_columns(
    tmp_path: Path, name: str, task: str, metric: str, form: str
) -> None:
    rows = [row | {"prediction": said} for row, said in zip(CHOICES, SAID, strict=True)]
    report = score(name, written(tmp_path, rows, form))
    assert report.metrics[task][metric] == 75
    assert any("scored by the true answers in it" in line for line in report.findings.lines)


@FORMS
def test_mme_is_scored_by_its_own_columns(tmp_path: Path, form: str) -> None:
    rows = [row | {"prediction": row["answer"] if row["index"] else "No"} for row in MME]
    report = score("mme", written(tmp_path, rows, form))
    assert report.metrics["mme_count"] == {"score": 75 + 50, "accuracy": 75, "accuracy_plus": 50}
    assert report.metrics["mme_OCR"]["score"] == 200


@FORMS
def test_pope_is_scored_by_its_own_columns_in_parts_too(tmp_path: Path, form: str) -> None:
    rows = [row | {"prediction": "Yes"} for row in POPE]
    whole = score("pope", written(tmp_path, rows, form)).metrics
    (tmp_path / "b").mkdir()
    parts = score("pope", [written(tmp_path, rows[:1], form), written(tmp_path / "b", rows[1:], form)])
    assert parts.metrics == whole
    assert whole["pope_random"]["accuracy"] == whole["pope_popular"]["accuracy"] == 50


def test_a_table_is_gold_of_pope_and_seed_bench(tmp_path: Path) -> None:
    said = [{"question_id": row["index"], "question": row["question"], "text": "Yes"} for row in POPE]
    report = score("pope", jsonl(tmp_path / "a.jsonl", said), annotations=written(tmp_path, POPE, "tsv"))
    assert report.metrics["pope_random"]["accuracy"] == 50
    letters = [{"question_id": n, "text": letter} for n, letter in enumerate(SAID)]
    report = score("seed_bench", jsonl(tmp_path / "b.jsonl", letters), annotations=written(tmp_path, CHOICES, "tsv"))
    assert report.metrics["seed_hue"] == report.metrics["seed_image"] == {"accuracy": 75}


def test_the_model_s_answer_is_never_taken_for_what_is_right(tmp_path: Path) -> None:
    """InternVL writes the model's letter as `answer`, and what is right as `gt_answers`."""
    rows = [
        {"question": row["question"], "answer": said, "gt_answers": row["answer"], "image_path": f"test/{n}/image.png"}
        for n, (row, said) in enumerate(zip(CHOICES, SAID, strict=True))
    ]
    assert score("scienceqa", jsonl(tmp_path / "a.jsonl", rows)).metrics["choice"]["accuracy"] == 75
    assert score("seed_bench", jsonl(tmp_path / "a.jsonl", rows)).metrics["seed_bench"]["accuracy"] == 75
    for name in ("scienceqa", "seed_bench", "mmbench"):  # no word of what is right
        alone = jsonl(tmp_path / "b.jsonl", [{"index": n, "question": "Q", "answer": "A"} for n in range(3)])
        with pytest.raises(UserError, match=rf"{name} needs --annotations|holds no answers"):
            score(name, alone)


def test_samples_of_lmms_eval_are_scored_by_their_targets(tmp_path: Path) -> None:
    logged = [
        {"doc_id": n, "input": row["question"], "target": row["answer"], "filtered_resps": said, "exact_match": 0.0}
        for n, (row, said) in enumerate(zip(CHOICES, SAID, strict=True))
    ]
    assert score("scienceqa", jsonl(tmp_path / "s.jsonl", logged)).metrics["choice"]["accuracy"] == 75
    several = [one | {"filtered_resps": ["A", "B"]} for one in logged]  # likelihoods of options, no text
    with pytest.raises(UserError, match="holds no answers"):
        score("scienceqa", jsonl(tmp_path / "t.jsonl", several))


def test_a_category_named_image_is_not_added_to_all_images(tmp_path: Path) -> None:
    rows = [row | {"prediction": s, "category": "image"} for row, s in zip(CHOICES, SAID, strict=True)]
    report = score("seed_bench", written(tmp_path, rows, "tsv"))
    assert report.metrics == {"seed_bench": {"accuracy": 75}, "seed_image": {"accuracy": 75}}


def test_parquet_of_hugging_face_is_gold(tmp_path: Path) -> None:
    """lmms-lab's POPE and MME: images as structs, ids of POPE anew in each category."""
    picture = {"bytes": b"\xff\xd8\xff" + b"x" * 2000, "path": None}
    asked = [("1", "dog", "yes", "random"), ("2", "cat", "no", "random"), ("1", "dog", "yes", "popular")]
    rows = [
        {"question_id": id, "question": IN.format(thing), "answer": label, "image_source": "COCO_1", "image": picture}
        | {"category": category}
        for id, thing, label, category in asked
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "pope.parquet")
    said = [
        {"question_id": n, "image": "COCO_1.jpg", "prompt": r["question"], "text": "yes"} for n, r in enumerate(rows)
    ]
    report = score("pope", jsonl(tmp_path / "a.jsonl", said), annotations=tmp_path / "pope.parquet")
    assert (report.metrics["pope_random"]["accuracy"], report.metrics["pope_popular"]["accuracy"]) == (50, 100)
    assert any("no label for adversarial; the mean goes over the others" in line for line in report.findings.lines)
    gold = [{"question_id": row["image_path"], "category": row["category"]} | row for row in MME]
    pd.DataFrame([row | {"image": picture} for row in gold]).to_parquet(tmp_path / "mme.parquet")
    said = [{"question_id": r["image_path"], "prompt": r["question"], "text": "Yes"} for r in MME]
    report = score("mme", jsonl(tmp_path / "b.jsonl", said), annotations=tmp_path / "mme.parquet")
    assert report.metrics["mme_count"] == {"score": 50, "accuracy": 50, "accuracy_plus": 0}
    assert any("no ground truth for existence" in line for line in report.findings.lines)


@pytest.mark.parametrize("name", ["pope", "mme", "mmbench", "seed_bench", "scienceqa"])
def test_files_that_disagree_on_what_is_right_are_refused(tmp_path: Path, name: str) -> None:
    rows = {"pope": POPE, "mme": MME}.get(name, CHOICES)
    wrong = {"pope": "No", "mme": "No"}.get(name, "B")
    said = [row | {"prediction": "A"} for row in rows]
    first, second = (
        jsonl(tmp_path / "a.jsonl", said),
        jsonl(tmp_path / "b.jsonl", [said[0] | {"answer": wrong}, *said[1:]]),
    )
    assert len(score(name, [first, jsonl(tmp_path / "c.jsonl", said)]).each) == 2
    with pytest.raises(UserError, match="question 0 has two true answers there"):
        score(name, [first, second])
