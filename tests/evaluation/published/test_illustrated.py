"""Published questions with their images, as the stage asks them."""

from pathlib import Path
from types import MappingProxyType

import pytest

from components.errors import UserError
from components.evaluation.asking import questions
from components.evaluation.published.illustrated import published_questions
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


def test_what_cannot_be_asked_is_told(mme: BenchmarkFiles, tmp_path: Path) -> None:
    none = MappingProxyType({})
    with pytest.raises(UserError, match=r"evaluate\.files\.pope is missing"):
        questions(["pope"], [], none)
    with pytest.raises(UserError, match="a judge model grades"):
        questions(["mm_vet"], [], none)
    with pytest.raises(UserError, match="whose questions are the test split's"):
        questions(["unifood"], [], {"unifood": mme})
    with pytest.raises(UserError, match=r"evaluate\.files\.mme\.images is missing"):
        published_questions("mme", mme.model_copy(update={"images": None}), 1000)
    with pytest.raises(UserError, match="holds no image of mme"):
        published_questions("mme", mme.model_copy(update={"images": str(tmp_path / "gt")}), 1000)
