from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.data.tasks import NUTRITION_FIELDS, nutrition_answer
from components.errors import UserError
from components.evaluation.compared import Difference, compare, left_out, read_answers
from components.evaluation.question import Question
from components.evaluation.results import Answer, Results, differences, write_answers

SURE = {"resamples": 200, "seed": 5}


def answered(path: Path, words: list[str], grams: float, number: int = 12) -> list[Answer]:
    """Captions and nutrition estimates of a model, written and read again. `words`: said in turn."""
    gold = nutrition_answer(dict.fromkeys(NUTRITION_FIELDS, 100.0))
    captions = [Question(f"c{n}", "flickr30k", "caption", "?", ("a red dish",), source="mine") for n in range(number)]
    amounts = dict.fromkeys(NUTRITION_FIELDS, 100.0)
    weighed = [
        Question(f"n{n}", "unifood", "nutrition", "?", (gold,), gold=str(amounts).replace("'", '"'), group=f"g{n}")
        for n in range(number)
    ]
    said = [words[n % len(words)] for n in range(number)]
    said += [nutrition_answer(dict.fromkeys(NUTRITION_FIELDS, grams))] * number
    results = Results()
    results.add("finetune", [*captions, *weighed], said)
    results.add("blind", [*captions, *weighed], ["nothing"] * (2 * number))
    write_answers(path, results)
    return read_answers(path)


@pytest.fixture
def models(tmp_path: Path) -> tuple[list[Answer], list[Answer]]:
    good = answered(tmp_path / "good.parquet", ["a red dish", "a dish"], 110.0)
    return answered(tmp_path / "poor.parquet", ["a boat", "a red"], 150.0), good


def by_metric(lines: list[Difference]) -> dict[str, Difference]:
    return {line.metric: line for line in lines}


def test_each_task_is_compared_in_its_main_metric(models: tuple[list[Answer], list[Answer]]) -> None:
    lines = by_metric(compare(*models, **SURE))
    assert list(lines) == ["caption.rouge_l", "nutrition.pmae"]
    caption, pmae = lines.values()
    assert caption.second > caption.first
    assert caption.value == pytest.approx(caption.second - caption.first)
    assert (pmae.first, pmae.second) == (pytest.approx(50), pytest.approx(10))
    assert (caption.better, pmae.better) == ("second", "second")  # fewer errors are better
    assert (caption.questions, caption.left_out) == (12, 0)


def test_the_other_way_round_is_the_negative(models: tuple[list[Answer], list[Answer]]) -> None:
    there, back = compare(*models, **SURE), compare(*reversed(models), **SURE)
    for one, other in zip(there, back, strict=True):
        assert one.value == pytest.approx(-other.value)
        assert {one.better, other.better} == {"first", "second"}


def test_a_model_is_not_better_than_itself(models: tuple[list[Answer], list[Answer]]) -> None:
    for line in compare(models[0], models[0], **SURE):
        assert (line.value, line.low, line.high, line.better) == (0, 0, 0, None)


def test_intervals_are_those_of_the_report(models: tuple[list[Answer], list[Answer]]) -> None:
    results = Results()
    for row, answers in zip(("blind", "finetune"), models, strict=True):
        results.add(row, [answer.question for answer in answers], [answer.text for answer in answers])
    entry = differences(results, **SURE)["caption.rouge_l finetune - blind"]
    line = by_metric(compare(*models, **SURE))["caption.rouge_l"]
    assert (line.value, line.low, line.high) == (entry["value"], entry["low"], entry["high"])


def test_only_questions_that_both_were_asked_count(models: tuple[list[Answer], list[Answer]]) -> None:
    first, second = models
    other = dataclasses.replace(second[0].question, references=("another truth",))
    changed = [dataclasses.replace(second[0], question=other), *second[1:11], *second[12:]]
    line = by_metric(compare(first, changed, **SURE))["caption.rouge_l"]
    assert (line.questions, line.left_out) == (10, 3)


def test_tasks_without_a_question_in_common_are_named(models: tuple[list[Answer], list[Answer]]) -> None:
    first, second = models
    captions = [answer for answer in first if answer.question.task == "caption"]
    other = [dataclasses.replace(one, question=dataclasses.replace(one.question, image_hash="x")) for one in second]
    assert left_out(first, second) == {}
    assert left_out(captions, second) == {"nutrition.pmae": 12}
    assert left_out(second, captions) == {"nutrition.pmae": 12}
    assert left_out(first, other) == {"caption.rouge_l": 24, "nutrition.pmae": 24}


def test_too_few_questions_give_no_verdict(tmp_path: Path) -> None:
    few = [answered(tmp_path / name, [name], 100.0, number=3) for name in ("a red dish", "boat")]
    line = by_metric(compare(*few, **SURE))["caption.rouge_l"]
    assert line.value < 0
    assert (line.low, line.better) == (None, None)


def test_a_file_without_the_columns_is_refused(tmp_path: Path) -> None:
    answered(tmp_path / "answers.parquet", ["x"], 1.0)
    table = pq.read_table(tmp_path / "answers.parquet").drop_columns(["group"])
    pq.write_table(table, tmp_path / "old.parquet")
    with pytest.raises(UserError, match=r"old\.parquet was written by another version \(no column group\)"):
        read_answers(tmp_path / "old.parquet")
    (tmp_path / "none.parquet").write_text("no table")
    with pytest.raises(UserError, match=r"none\.parquet cannot be read as a table of answers"):
        read_answers(tmp_path / "none.parquet")
