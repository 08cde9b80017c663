"""UniFood's and Flickr30k's answers, scored as if they were published files."""

from pathlib import Path

import pytest

from components.data.tasks import INGREDIENTS_QUESTION
from tests.evaluation.offline.layouts import jsonl, score


def test_unifood_tells_tasks_by_id_or_by_prompt(tmp_path: Path) -> None:
    record = {"id": "d1", "image": "a.jpg", "ingredients": ["rice", "egg"], "instructions": "Boil the rice."}
    gold = jsonl(tmp_path / "unifood.jsonl", [record])
    by_prompt = [{"question_id": "d1", "prompt": INGREDIENTS_QUESTION, "text": "The ingredients include rice."}]
    by_id = [{"question_id": "d1/ingredients", "text": "The ingredients include rice."}]
    for given in (by_prompt, by_id):
        report = score("unifood", jsonl(tmp_path / "a.jsonl", given), annotations=gold)
        assert report.metrics["ingredients"] == pytest.approx({"iou": 50, "f1": 200 / 3})
        assert report.metrics["recipe"]["rouge_l"] == 0  # not answered, and told:
        assert report.findings.unmatched["questions without an answer"] == ["d1/recipe"]
        assert list(report.other) == ["ingredients"]


@pytest.mark.parametrize("id", ["12.jpg", "12", "12.jpg#0"])
def test_flickr30k_knows_an_image_by_its_name(id: str, tmp_path: Path) -> None:
    (tmp_path / "results.token").write_text("12.jpg#0\ta man cooks rice\n12.jpg#1\tsomeone fries an egg\n")
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": id, "text": "someone fries an egg"}])
    report = score("flickr30k", answers, annotations=tmp_path / "results.token")
    assert report.metrics["caption"]["rouge_l"] == 100
