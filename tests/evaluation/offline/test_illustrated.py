"""Published questions with their images, as the stage asks them."""

import json
from pathlib import Path
from types import MappingProxyType

import pytest
from pydantic import ValidationError

from components.errors import UserError
from components.evaluation.inference.asking import questions
from components.evaluation.offline.illustrated import published_questions
from components.evaluation.results import Results
from components.params import BenchmarkFiles


@pytest.fixture
def mme(tmp_path: Path) -> BenchmarkFiles:
    (tmp_path / "gt").mkdir()
    rows = [("1.jpg", "Is it one?", "Yes"), ("1.jpg", "Is it two?", "No"), ("2.jpg", "Is it one?", "No")]
    text = "".join(f"{image}\t{question} Please answer yes or no.\t{gold}\n" for image, question, gold in rows)
    (tmp_path / "gt" / "count.txt").write_text(text)
    (tmp_path / "images" / "count").mkdir(parents=True)
    (tmp_path / "images" / "count" / "1.jpg").write_bytes(b"one")
    return BenchmarkFiles(annotations=str(tmp_path / "gt"), images=str(tmp_path / "images"))


def test_questions_have_images_and_names_of_their_own(mme: BenchmarkFiles, capsys: pytest.CaptureFixture[str]) -> None:
    asked = questions(["mme"], [], {"mme": mme})
    assert [question.image for question in asked] == [b"one", b"one"]
    assert len({question.name for question in asked}) == 2
    assert "1 questions without an image" in capsys.readouterr().err
    results = Results()
    results.add("finetune", asked, ["Yes", "No"])
    assert results.metrics["finetune"]["mme"]["perception"] == 200


@pytest.mark.parametrize("name", ["questions", "annotations", "images"])
def test_an_empty_path_is_a_mistake(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        BenchmarkFiles.model_validate({"annotations": "a", name: ""})


def test_what_cannot_be_asked_is_reported(mme: BenchmarkFiles, tmp_path: Path) -> None:
    none = MappingProxyType({})
    with pytest.raises(UserError, match=r"evaluate\.files\.pope is missing"):
        questions(["pope"], [], none)
    with pytest.raises(UserError, match="must name one that is scored by a rule"):
        questions(["mm_vet"], [], none)
    with pytest.raises(UserError, match=r"evaluate\.files\.mme\.images is missing"):
        published_questions("mme", mme.model_copy(update={"images": None}), 1000)
    with pytest.raises(UserError, match="holds no image of mme"):
        published_questions("mme", mme.model_copy(update={"images": str(tmp_path / "gt")}), 1000)


def test_a_split_of_problems_json_is_asked_with_its_images_and_without(tmp_path: Path) -> None:
    problem = {"question": "Which?", "choices": ["a", "b"], "answer": 1, "hint": ""}
    problems = {
        "1": {**problem, "image": "image.png"},
        "2": {**problem, "image": None},
        "3": {**problem, "image": None},
    }
    (tmp_path / "problems.json").write_text(json.dumps(problems))
    (tmp_path / "pid_splits.json").write_text(json.dumps({"val": ["1", "2"], "test": ["3"]}))
    (tmp_path / "images" / "val" / "1").mkdir(parents=True)
    (tmp_path / "images" / "val" / "1" / "image.png").write_bytes(b"one")
    files = BenchmarkFiles(
        annotations=str(tmp_path / "problems.json"), images=str(tmp_path / "images"), split="validation"
    )
    asked = questions(["scienceqa"], [], {"scienceqa": files})
    assert [(question.id, question.image) for question in asked] == [("1", b"one"), ("2", None)]
    results = Results()
    results.add("finetune", asked, ["A", "B"])
    assert results.metrics["finetune"]["choice"] == {"accuracy": 0.5, "accuracy_image": 0.0}
    with pytest.raises(UserError, match="declares no train split; it declares test, validation"):
        questions(["scienceqa"], [], {"scienceqa": files.model_copy(update={"split": "train"})})
    given = [{"id": "1", "conversations": [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "A"}]}]
    (tmp_path / "test.json").write_text(json.dumps(given))
    with pytest.raises(UserError, match="LLaVA's test file of ScienceQA has no splits to choose from"):
        published_questions("scienceqa", files.model_copy(update={"annotations": str(tmp_path / "test.json")}), 1000)


def test_each_photo_of_a_dish_is_asked_about_itself(tmp_path: Path) -> None:
    records = [{"id": str(n), "image": f"{n}.png", "dish": "d", "ingredients": ["rice"]} for n in (1, 2)]
    (tmp_path / "unifood.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "images").mkdir()
    for n in (1, 2):
        (tmp_path / "images" / f"{n}.png").write_bytes(b"photo %d" % n)
    files = BenchmarkFiles(annotations=str(tmp_path / "unifood.jsonl"), images=str(tmp_path / "images"))
    asked = questions(["unifood"], [], {"unifood": files})
    assert [question.image for question in asked] == [b"photo 1", b"photo 2"]
    with pytest.raises(UserError, match="declares no validation split; it declares none at all"):
        questions(["unifood"], [], {"unifood": files.model_copy(update={"split": "validation"})})
    with pytest.raises(UserError, match=r"evaluate\.files names chat, which has no published files"):
        questions(["chat"], [], {"chat": files})
    with pytest.raises(UserError, match="pope has no splits to choose from"):
        published_questions("pope", files.model_copy(update={"split": "train"}), 1000)


def test_judged_questions_that_share_an_id_are_refused(tmp_path: Path) -> None:
    lines = [{"question_id": 0, "image": "1.jpg", "text": text, "category": "conv"} for text in ("Who?", "Where?")]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "1.jpg").write_bytes(b"one")
    files = BenchmarkFiles(annotations=str(tmp_path), images=str(tmp_path))
    with pytest.raises(UserError, match="questions of llava_bench share an id"):
        published_questions("llava_bench", files, 1000)
