"""SEED-Bench: convert_seed_for_submission.py of LLaVA; figures worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.evaluation.benchmarks import seed_bench
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.printing import as_json
from components.evaluation.offline.questions import Files
from tests.evaluation.offline.layouts import jsonl, score


def test_seed_bench_keeps_images_and_videos_apart(tmp_path: Path) -> None:
    official = {
        "question_type": {"Scene Understanding": 1, "Action Recognition": 10},
        "questions": [
            {"question_id": id, "question": "What?", "answer": gold, "data_type": kind, "question_type_id": number}
            | {f"choice_{letter}": f"thing {letter}" for letter in "abcd"}
            for id, gold, kind, number in (("1", "A", "image", 1), ("2", "B", "image", 1), ("v3", "C", "video", 10))
        ],
    }
    gold = tmp_path / "SEED-Bench.json"
    gold.write_text(json.dumps(official))
    plain = tmp_path / "gold.json"
    plain.write_text(
        "".join(
            json.dumps({"question_id": q["question_id"], "gt_answer": q["answer"]}) + ",\n"
            for q in official["questions"]
        )
    )
    answers = jsonl(
        tmp_path / "a.jsonl",
        [{"question_id": 1, "text": "A"}, {"question_id": 2, "text": "b. thing"}, {"question_id": "v3", "text": "C"}],
    )
    report = score("seed_bench", answers, annotations=gold)
    assert {task: metrics["accuracy"] for task, metrics in report.metrics.items()} == pytest.approx(
        {
            "seed_bench": 200 / 3,
            "seed_image": 50,
            "seed_video": 100,
            "seed_Scene Understanding": 50,
            "seed_Action Recognition": 100,
        }
    )
    assert score("seed_bench", answers, annotations=plain).metrics["seed_image"]["accuracy"] == 50
    assert score("seed_bench", answers, "lmms_eval", annotations=gold).metrics["seed_image"]["accuracy"] == 100


def test_seed_bench_counts_a_missing_answer_as_wrong_and_says_so(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.json", [{"question_id": str(n), "gt_answer": "A"} for n in range(4)])
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": "0", "prediction": "A"}])
    report = score("seed_bench", answers, annotations=gold)
    assert report.metrics["seed_image"]["accuracy"] == 25
    assert report.other["seed_image"]["accuracy"] == 100
    assert as_json(report)["missing"]["count"] == 3


@pytest.mark.parametrize(
    ("choices", "shown"),
    [
        ([0, 1, 2, 3], ["A. 0", "B. 1", "C. 2", "D. 3"]),
        ([0.0, 0.5, False, "x"], ["A. 0", "B. 0.5", "C. False", "D. x"]),
        (["", None, 2, 3], ["A. ", "B. ", "C. 2", "D. 3"]),
        (["x", "y", "z", None], ["A. x", "B. y", "C. z"]),
    ],
)
@pytest.mark.parametrize("rule", ["llava", "vlmevalkit"])
def test_each_choice_keeps_its_letter(choices: list[Any], shown: list[str], rule: str, tmp_path: Path) -> None:
    right = shown[-1][0]
    record = {"question_id": "1", "question": "How many?", "answer": right, "data_type": "image", "data_id": "x"}
    record |= {f"choice_{letter}": choice for letter, choice in zip("abcd", choices, strict=True)}
    gold, answers = (
        jsonl(tmp_path / "g.json", [record]),
        jsonl(tmp_path / "a.jsonl", [{"question_id": 1, "text": right}]),
    )
    (question,) = seed_bench.read(Files(annotations=gold), Findings())
    assert question.text.splitlines()[1:-1] == shown
    assert score("seed_bench", answers, rule, annotations=gold).metrics["seed_bench"]["accuracy"] == 100
