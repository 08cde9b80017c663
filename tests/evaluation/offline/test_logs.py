"""What lmms-eval logs of its samples, in its earlier forms and today's."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.evaluation.offline.answers import Given, read_answers
from components.evaluation.offline.findings import Findings
from tests.evaluation.offline.layouts import LABELS, SAID, jsonl, mme, mme_answers, pope, score

QUESTION = {"question_id": "7", "question": "Is it red?", "answer": "no", "category": "random", "image_source": "a_1"}
METRIC = {"question_id": "7", "score": 0.0, "prediction": "yes", "ground_truth": "no"}
ASKED = "Is it red?\nAnswer the question using a single word or phrase."
SHARED = {"doc_id": 3, "target": "no", "doc_hash": "9", "pope_accuracy": METRIC}
EARLIER = SHARED | {
    "doc": QUESTION,
    "arguments": [[ASKED, {"beams": 1}]],
    "resps": [["Yes"]],
    "filtered_resps": ["Yes"],
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(EARLIER),
        json.dumps({"args": {"model": "m"}, "model_configs": {}, "logs": [EARLIER], "time": "12"}),
        json.dumps(SHARED | {"input": ASKED, "filtered_resps": ["Yes"], "resps": [["Yes", "yes"]]}),
        json.dumps(SHARED | {"input": [ASKED, {"beams": 1}], "filtered_resps": "Yes", "token_counts": [None]}),
    ],
    ids=["with its question", "one object", "lists", "flat"],
)
def test_the_unchanged_answer_and_the_question_s_id_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "samples_pope.jsonl").write_text(text)
    (given,) = read_answers(tmp_path / "samples_pope.jsonl", Findings())
    assert (given.id, given.text, given.prompt) == ("7", "Yes", ASKED)
    assert given in (Given("7", "Yes", ASKED), Given("7", "Yes", ASKED, image="a_1", category="random"))


def samples(answers: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in answers.read_text().splitlines()]
    return [
        {
            "doc_id": number,
            "input": record["prompt"],
            "filtered_resps": record["text"],
            "mme_perception_score": {"question_id": record["question_id"], "category": "count", "score": 1.0},
        }
        for number, record in enumerate(records)
    ]


def test_mme_is_scored_as_from_llavas_layout(tmp_path: Path) -> None:
    gold, answers = mme(tmp_path / "gt"), mme_answers(tmp_path / "a.jsonl", SAID)
    logged = jsonl(tmp_path / "samples_mme.jsonl", samples(answers))
    assert score("mme", logged, annotations=gold).metrics == score("mme", answers, annotations=gold).metrics


def test_samples_without_an_id_are_joined_by_their_words(tmp_path: Path) -> None:
    questions = [f"Which of {n}?" for n in range(4)]
    gold = [{"question_id": str(n), "question": q, "answer": "A", "choice_a": "x"} for n, q in enumerate(questions)]
    (tmp_path / "g.json").write_text(json.dumps({"questions": gold}))
    logged = [{"doc_id": n, "input": questions[3 - n], "filtered_resps": "AAAB"[n], "seed_all": 1.0} for n in range(4)]
    report = score("seed_bench", jsonl(tmp_path / "s.jsonl", logged), annotations=tmp_path / "g.json")
    assert report.metrics["seed_image"] == {"accuracy": 75}


def test_pope_is_joined_by_category_and_image(tmp_path: Path) -> None:
    files = pope(tmp_path, [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    logged = [
        {"doc_id": n, "doc": {"question_id": "1", "question": text, "answer": label, "image_source": Path(image).stem}}
        | {"filtered_resps": [label.capitalize()], "arguments": [[text, {}]]}
        for n, (image, text, label) in enumerate(LABELS)
    ]
    assert score("pope", jsonl(tmp_path / "s.jsonl", logged), **files).metrics["pope"]["accuracy"] == 100


def test_options_that_a_question_has_not_are_absent(tmp_path: Path) -> None:
    rows = [
        {
            "index": n,
            "question": f"Is it {n}?",
            "A": "yes",
            "B": "nan",
            "C": "nan",
            "D": "nan",
            "E": "nan",
            "answer": "A",
        }
        for n in range(2)
    ]
    gold = tmp_path / "gold.tsv"
    pd.DataFrame(rows)[["index", "question", "A", "answer"]].to_csv(gold, sep="\t", index=False)
    logged = [{"doc_id": r["index"], "submission": r, "filtered_resps": ["A"], "input": r["question"]} for r in rows]
    given = read_answers(jsonl(tmp_path / "s.jsonl", logged), Findings())
    assert [(one.id, one.options) for one in given] == [("0", "A. yes"), ("1", "A. yes")]
    assert score("mmbench", tmp_path / "s.jsonl", annotations=gold).metrics["mmbench"]["single"] == 100
