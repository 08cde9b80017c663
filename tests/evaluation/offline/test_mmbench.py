"""MMBench: a question counts when every rotation is right; figures worked out by hand."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.errors import UserError
from components.evaluation.benchmarks import mmbench
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.illustrated import published_questions
from components.evaluation.offline.printing import as_json
from components.evaluation.offline.questions import Files
from components.params import BenchmarkFiles
from tests.evaluation.offline.layouts import jsonl, score


def mmbench_rows() -> pd.DataFrame:
    rows = []
    for index, answer, options in (
        (1, "A", ["red", "blue"]),
        (1_000_001, "B", ["blue", "red"]),
        (2, "B", ["one", "two"]),
        (1_000_002, "A", ["two", "one"]),
    ):
        row = dict(zip("ABCD", [*options, None, None], strict=True))
        rows.append({"index": index, "question": "Which?", "hint": None, **row, "answer": answer, "category": "hue"})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("layout", ["xlsx", "tsv", "jsonl"])
def test_mmbench_counts_whole_circles(layout: str, tmp_path: Path) -> None:
    said = ["A", "B. red", "B", "B"]  # the second question fails in one rotation
    frame = mmbench_rows()
    table = tmp_path / "mmbench_dev.tsv"
    frame.to_csv(table, sep="\t", index=False)
    answers = tmp_path / f"answers.{layout}"
    if layout == "jsonl":
        jsonl(answers, [{"question_id": i, "text": t} for i, t in zip(frame["index"].tolist(), said, strict=True)])
    elif layout == "xlsx":
        frame.assign(prediction=said).to_excel(answers, index=False)
    else:
        frame.assign(prediction=said).to_csv(answers, sep="\t", index=False)
    report = score("mmbench", answers, annotations=table)
    assert report.metrics["mmbench"] == {"circular": 50, "single": 100}
    assert report.metrics["mmbench_hue"] == {"circular": 50}
    assert score("mmbench", answers, "exact", annotations=table).metrics["mmbench"]["circular"] == 0
    if layout != "jsonl":
        assert score("mmbench", answers).metrics == report.metrics  # the answers' own table has the gold


def test_mmbench_without_answers_in_the_gold_is_refused(tmp_path: Path) -> None:
    mmbench_rows().drop(columns="answer").to_csv(tmp_path / "test.tsv", sep="\t", index=False)
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 1, "text": "A"}])
    with pytest.raises(UserError, match="test split has no answers"):
        score("mmbench", answers, annotations=tmp_path / "test.tsv")
    with pytest.raises(UserError, match="needs --annotations"):
        score("mmbench", answers)


def test_mmbench_gold_is_not_taken_for_answers(tmp_path: Path) -> None:
    table = tmp_path / "mmbench_dev.tsv"
    mmbench_rows().to_csv(table, sep="\t", index=False)
    with pytest.raises(UserError, match="holds no answers"):
        score("mmbench", table, annotations=table)


def test_mmbench_first_rotations_alone_are_scored(tmp_path: Path) -> None:
    table = tmp_path / "mmbench_dev.tsv"
    mmbench_rows().to_csv(table, sep="\t", index=False)
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 1, "text": "A"}, {"question_id": 2, "text": "A"}])
    report = score("mmbench", answers, annotations=table)
    assert report.metrics["mmbench"] == {"circular": 0, "single": 50}
    assert report.other == {}  # no circle is whole
    assert report.findings.unmatched["questions without an answer"] == ["1000001", "1000002"]


def test_mmbench_rotations_show_the_image_of_the_row_that_they_name(tmp_path: Path) -> None:
    image = base64.b64encode(bytes(range(90))).decode()
    table = tmp_path / "mmbench_dev.tsv"
    mmbench_rows().assign(image=[image, "1", image, "9"]).to_csv(table, sep="\t", index=False)
    findings = Findings()
    asked = mmbench.read(Files(annotations=table), findings)
    assert [question.image for question in asked] == [bytes(range(90))] * 3 + [None]
    assert findings.unmatched["rows without an image that can be read"] == ["1000002"]


def one_pass(path: Path, form: str = "{}") -> Path:
    rows = [
        {"index": 1, "question": "How many?", "A": "One", "B": "None", "C": "Two", "D": "Three", "answer": "D"},
        {"index": 2, "question": "Which?", "A": "EU", "B": "NA", "C": "nan", "D": "AS", "answer": "D"},
        {"index": 3, "question": "How many?", "A": "Two", "B": "none", "C": None, "D": None, "answer": "B"},
    ]
    frame = pd.DataFrame([row | {"prediction": form.format(row["answer"])} for row in rows])
    frame.to_excel(path, index=False) if path.suffix == ".xlsx" else frame.to_csv(path, sep="\t", index=False)
    return path


@pytest.mark.parametrize("ending", ["xlsx", "tsv"])
@pytest.mark.parametrize("rule", ["llava", "exact", "vlmevalkit"])
def test_none_and_na_are_options(ending: str, rule: str, tmp_path: Path) -> None:
    report = score("mmbench", one_pass(tmp_path / f"a.{ending}"), rule)
    assert report.metrics["mmbench"] == {"single": 100}
    (question, *_) = mmbench.read(Files(answers=(tmp_path / f"a.{ending}",)), Findings())
    assert "B. None\nC. Two\nD. Three" in question.text


def test_one_pass_is_not_called_circular(tmp_path: Path) -> None:
    report = score("mmbench", one_pass(tmp_path / "a.tsv"))
    assert as_json(report)["metrics"]["mmbench"] == {"circular": None, "single": 100}
    assert any("asks each question once" in line for line in report.findings.lines)


@pytest.mark.parametrize("form", ["**{}**", "Answer: {}", "\u9009\u9879{}"])
def test_answers_without_a_letter_are_counted(form: str, tmp_path: Path) -> None:
    report = score("mmbench", one_pass(tmp_path / "a.tsv", form))
    assert report.metrics["mmbench"]["single"] == 0
    assert report.findings.unmatched["answers that could not be read"] == ["1", "2", "3"]
    line = next(line for line in report.findings.lines if "could not be read" in line)
    assert "they count as wrong" in line
    assert ("vlmevalkit reads 3 of them" in line) == form.isascii()


def test_an_answer_that_is_no_option_is_left_out(tmp_path: Path) -> None:
    frame = pd.read_csv(one_pass(tmp_path / "a.tsv"), sep="\t", keep_default_na=False)
    frame.loc[2, "answer"] = "C"
    frame.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    report = score("mmbench", tmp_path / "a.tsv")
    assert report.questions == 2
    assert report.findings.unmatched["rows whose answer is none of their options"] == ["3"]


PICTURE = bytes(range(1, 250))
ENCODED = base64.b64encode(PICTURE).decode()
READABLE = {
    "plain": ENCODED,
    "a newline at the end": ENCODED + "\n",
    "lines": base64.encodebytes(PICTURE).decode(),
    "a data URL": "data:image/png;base64," + ENCODED,
    "URL-safe": base64.urlsafe_b64encode(PICTURE).decode(),
    "unpadded": base64.b64encode(PICTURE + b"x").decode().rstrip("="),
}


@pytest.mark.parametrize("form", READABLE)
def test_images_are_read_as_tools_write_them(form: str, tmp_path: Path) -> None:
    rows = mmbench_rows().assign(image=[READABLE[form], "1", "1.0", ""])
    rows.to_csv(tmp_path / "dev.tsv", sep="\t", index=False)
    findings = Findings()
    asked = mmbench.read(Files(annotations=tmp_path / "dev.tsv"), findings)
    assert [(question.image or b"")[: len(PICTURE)] for question in asked] == [*[PICTURE] * 3, b""]
    assert findings.unmatched == {}


def test_names_of_images_are_looked_up_and_what_is_neither_is_counted(tmp_path: Path) -> None:
    rows = mmbench_rows().assign(image=["a.png", "1", "?" * 90, "7"], image_path=["", "", "folder/b.png", ""])
    rows.to_csv(tmp_path / "dev.tsv", sep="\t", index=False)
    findings = Findings()
    asked = mmbench.read(Files(annotations=tmp_path / "dev.tsv"), findings)
    assert [question.image_name for question in asked] == ["a.png", "a.png", "folder/b.png", None]
    assert findings.unmatched["rows without an image that can be read"] == ["1000002"]
    files = BenchmarkFiles(annotations=str(tmp_path / "dev.tsv"))
    with pytest.raises(UserError, match=r"evaluate\.files\.mmbench\.images is missing"):
        published_questions("mmbench", files, 1000)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"one")
    shown = published_questions("mmbench", files.model_copy(update={"images": str(tmp_path / "images")}), 1000)
    assert [(question.id, question.image) for question in shown] == [
        ("1", b"one"),
        ("1000001", b"one"),
        ("1000002", None),
    ]


@pytest.mark.parametrize("gold", [2, "", "red"])
def test_given_annotations_are_never_replaced_by_the_sheets_own(gold: Any, tmp_path: Path) -> None:
    sheet = one_pass(tmp_path / "a.tsv")
    frame = pd.read_csv(sheet, sep="\t", keep_default_na=False)
    frame.assign(answer=gold).to_csv(tmp_path / "gold.tsv", sep="\t", index=False)
    for option in ("annotations", "questions"):
        files: dict[str, Any] = {option: tmp_path / "gold.tsv"}
        with pytest.raises(UserError, match=r"gold\.tsv: no row has .* one of the letters A to H"):
            score("mmbench", sheet, **files)


def test_small_letters_are_right_answers_too(tmp_path: Path) -> None:
    frame = pd.read_csv(one_pass(tmp_path / "a.tsv"), sep="\t", keep_default_na=False)
    frame.assign(answer=["d", "a", "x"]).to_csv(tmp_path / "gold.tsv", sep="\t", index=False)
    report = score("mmbench", tmp_path / "a.tsv", annotations=tmp_path / "gold.tsv")
    assert report.metrics["mmbench"] == {"single": 50}
    assert any("1 rows have no index or no letter as their answer" in line for line in report.findings.lines)


def test_rows_that_stand_twice_are_no_rotations(tmp_path: Path) -> None:
    frame = pd.read_csv(one_pass(tmp_path / "a.tsv"), sep="\t", keep_default_na=False)
    frame.loc[0, "prediction"] = "A"
    twice = pd.concat([frame, frame.tail(1)])
    twice.to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    report = score("mmbench", tmp_path / "a.tsv")
    assert report.metrics["mmbench"] == {"single": pytest.approx(200 / 3)}
    assert any("1 rows stand there twice" in line for line in report.findings.lines)
    assert any("asks each question once" in line for line in report.findings.lines)


def test_one_pass_of_later_rotations_is_a_single_one(tmp_path: Path) -> None:
    frame = pd.read_csv(one_pass(tmp_path / "a.tsv"), sep="\t", keep_default_na=False)
    frame.assign(index=frame["index"] + 1_000_000).to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    assert score("mmbench", tmp_path / "a.tsv").metrics["mmbench"] == {"single": 100}
