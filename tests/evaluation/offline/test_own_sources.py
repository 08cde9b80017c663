"""UniFood's and Flickr30k's answers, scored as if they were published files."""

import json
from pathlib import Path

import pytest

from components.data.tasks import INGREDIENTS_QUESTION, RECIPE_QUESTION
from tests.evaluation.offline.layouts import jsonl, score


def test_unifood_tells_tasks_by_id_or_by_prompt(tmp_path: Path) -> None:
    record = {"id": "d1", "image": "a.jpg", "ingredients": ["rice", "egg"], "instructions": "Boil the rice."}
    gold = jsonl(tmp_path / "unifood.jsonl", [record])
    by_prompt = [{"question_id": "d1", "prompt": INGREDIENTS_QUESTION, "text": "The ingredients include rice."}]
    by_id = [{"question_id": "d1/ingredients", "text": "The ingredients include rice."}]
    for given in (by_prompt, by_id):
        report = score("unifood", jsonl(tmp_path / "a.jsonl", given), annotations=gold)
        assert report.metrics["ingredients"] == pytest.approx({"iou": 50, "f1": 200 / 3})
        assert report.metrics["recipe"]["rouge_l"] == 0  # not answered, and reported:
        assert report.findings.unmatched["questions without an answer"] == ["d1/recipe"]
        assert list(report.other) == ["ingredients"]


@pytest.mark.parametrize("id", ["12.jpg", "12", "12.jpg#0"])
def test_flickr30k_knows_an_image_by_its_name(id: str, tmp_path: Path) -> None:
    (tmp_path / "results.token").write_text("12.jpg#0\ta man cooks rice\n12.jpg#1\tsomeone fries an egg\n")
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": id, "text": "someone fries an egg"}])
    report = score("flickr30k", answers, annotations=tmp_path / "results.token")
    assert report.metrics["caption"]["rouge_l"] == 100


def authors_answers(path: Path, images: range, said: str = "The ingredients include rice.") -> Path:
    """[{img, qa: [{question, answer, prediction}, ..]}, ..]: an ingredients question, a recipe, one of no task."""
    truth = {INGREDIENTS_QUESTION: "The ingredients include rice and egg.", RECIPE_QUESTION: "Boil the rice."}
    qa = [{"question": question, "answer": answer, "prediction": said} for question, answer in truth.items()]
    qa.append({"question": "Is it fresh?", "answer": "Yes.", "prediction": "No."})
    path.write_text(json.dumps([{"img": f"{n}.jpg", "qa": qa} for n in images]))
    return path


def test_the_authors_answer_file_is_scored_by_itself(tmp_path: Path) -> None:
    report = score("unifood", authors_answers(tmp_path / "ans0.json", range(3)))
    assert report.metrics["ingredients"] == pytest.approx({"iou": 50, "f1": 200 / 3})
    assert report.questions == report.answered[0] == 6
    assert report.findings.unmatched["pairs of no task of UniFood"] == ["0.jpg/qa2", "1.jpg/qa2", "2.jpg/qa2"]


def test_files_of_several_processes_are_one(tmp_path: Path) -> None:
    parts = [authors_answers(tmp_path / "ans0.json", range(3)), authors_answers(tmp_path / "ans1.json", range(3, 5))]
    report = score("unifood", parts)
    assert report.answered == [10]
    assert report.metrics["ingredients"]["iou"] == pytest.approx(50)
    again = score("unifood", [parts[0], authors_answers(tmp_path / "b.json", range(3), "The ingredients include egg.")])
    assert again.answered == [6, 6]


def test_the_authors_answers_are_joined_with_either_annotations(tmp_path: Path) -> None:
    answers = authors_answers(tmp_path / "ans0.json", range(1))
    turns = [{"form": "question", "value": f"<image>\n{INGREDIENTS_QUESTION}"}]
    turns.append({"form": "answer", "value": "The ingredients include rice."})
    (tmp_path / "test.json").write_text(json.dumps([{"image": "0.jpg", "conversations": turns}]))
    record = {"id": "d1", "image": "photos/0.jpg", "ingredients": ["rice"], "instructions": "Boil the rice."}
    for annotations in (tmp_path / "test.json", jsonl(tmp_path / "unifood.jsonl", [record])):
        assert score("unifood", answers, annotations=annotations).metrics["ingredients"]["iou"] == 100


def test_empty_answers_of_each_task_are_counted_as_unread(tmp_path: Path) -> None:
    report = score("unifood", authors_answers(tmp_path / "ans0.json", range(1), "."))
    assert report.findings.unmatched["answers that could not be read"] == ["0.jpg/qa0"]


def test_lists_and_decimal_commas_of_other_models_are_read_or_counted(tmp_path: Path) -> None:
    record = {"id": "d1", "image": "a.jpg", "ingredients": ["rice", "egg"], "instructions": "Boil the rice."}
    record["nutrition"] = {"mass_g": 12, "calories_kcal": 9, "fat_g": 1, "protein_g": 1, "carbohydrate_g": 1}
    gold = jsonl(tmp_path / "unifood.jsonl", [record])
    comma = "The dish weighs 12,5 g and has 9 kcal, with 1 g of fat, 1 g of protein and 1 g of carbohydrate."
    said = {"ingredients": "1. rice\n2. egg", "recipe": "Boil the rice.", "nutrition": comma}
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": f"d1/{task}", "text": text} for task, text in said.items()])
    report = score("unifood", answers, annotations=gold)
    assert report.metrics["ingredients"]["iou"] == 100
    assert report.findings.unmatched["answers that could not be read"] == ["d1/nutrition"]


def test_parts_that_overlap_a_little_are_one_still(tmp_path: Path) -> None:
    """As a run that was resumed writes them; two runs over the same questions are averaged."""
    gold = jsonl(tmp_path / "g.json", [{"question_id": n, "gt_answer": "A"} for n in range(40)])
    said = [{"question_id": n, "text": "A"} for n in range(40)]
    first = jsonl(tmp_path / "1.jsonl", said[:20])
    second = jsonl(tmp_path / "2.jsonl", [said[18], {"question_id": 19, "text": "B"}, *said[20:]])
    report = score("seed_bench", [first, second], annotations=gold)
    assert report.metrics["seed_image"] == {"accuracy": 97.5}
    assert report.findings.unmatched == {"repeated ids": ["19"]}
    assert any("answer only 2 questions in common" in line for line in report.findings.lines)
    third = jsonl(tmp_path / "3.jsonl", said[10:])
    assert len(score("seed_bench", [first, third], annotations=gold).each) == 2
