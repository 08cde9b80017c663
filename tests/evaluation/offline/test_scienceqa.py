"""ScienceQA: eval_science_qa.py of LLaVA; figures worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.data.tasks import CHOICE_PROMPT
from components.errors import UserError
from components.evaluation.offline.questions import Files
from tests.evaluation.offline.layouts import jsonl, scienceqa, score


def test_scienceqa_is_the_same_from_either_gold(tmp_path: Path) -> None:
    problems, test = scienceqa(tmp_path / "sqa")
    answers = jsonl(
        tmp_path / "a.jsonl", [{"question_id": "1", "text": "A"}, {"question_id": "2", "text": "The answer is A."}]
    )
    sources: list[dict[str, Any]] = [
        {"annotations": problems},
        {"annotations": problems.parent},
        {"annotations": test},
        {"questions": test},
        {"questions": test, "annotations": problems},
    ]
    for files in sources:
        report = score("scienceqa", answers, **files)
        assert report.questions == 2
        assert report.metrics["choice"] == {"accuracy": 50, "accuracy_image": 0}
    assert report.metrics == score("scienceqa", answers, "lmms_eval", annotations=test).metrics


def test_scienceqa_prompt_is_llavas(tmp_path: Path) -> None:
    from components.evaluation.benchmarks import scienceqa as module
    from components.evaluation.offline.findings import Findings

    problems, test = scienceqa(tmp_path / "sqa")
    for path in (problems, test):
        for question in module.read(Files(annotations=path), Findings()):
            assert question.text == f"Which?\nA. x\nB. y\n{CHOICE_PROMPT}"


def test_scienceqa_gold_is_the_letter_of_the_true_answer(tmp_path: Path) -> None:
    """LLaVA's other test files hold a lecture and "The answer is B." in place of the letter."""
    _, test = scienceqa(tmp_path / "sqa")
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": "2", "text": "B"}])
    records = json.loads(test.read_text())[1:]
    for gold, right in (("A lecture. The answer is B.", 1), ("The answer is A.", 0)):
        records[0]["conversations"][1]["value"] = gold
        test.write_text(json.dumps(records))
        assert score("scienceqa", answers, annotations=test).metrics["choice"]["accuracy"] == 100 * right
    records[0]["conversations"][1]["value"] = "a lecture"
    test.write_text(json.dumps(records))
    with pytest.raises(UserError, match=r"question, letter.*record 1 is another"):
        score("scienceqa", answers, annotations=test)
