from __future__ import annotations

import json
from typing import Any

import pytest

from components.data.tasks import NUTRITION_FIELDS, nutrition_answer
from components.evaluation.benchmarks import BENCHMARKS, PUBLISHED, scored
from components.evaluation.inference.journal import Failed
from components.evaluation.question import Question
from components.evaluation.results import Results, difference_line, differences, paired, printed_table

GOLDS = {
    "unifood": ("ingredients", ["rice"]),
    "scienceqa": ("choice", "A"),
    "flickr30k": ("caption", None),
    "chat": ("chat", None),
    "pope": ("pope_random", "yes"),
    "mme": ("mme_count", "yes"),
    "mmbench": ("mmbench", {"answer": "A", "options": {"A": "x"}, "category": ""}),
    "seed_bench": ("seed_image", {"answer": "A", "options": {"A": "x"}, "dimension": ""}),
}


@pytest.mark.parametrize("name", [*BENCHMARKS, *(PUBLISHED.keys() - BENCHMARKS.keys())])
def test_a_question_that_failed_is_wrong_in_every_benchmark(name: str) -> None:
    """To POPE's rule an empty answer is a yes; a question without an answer must not be right."""
    task, gold = GOLDS[name]
    question = Question("1", name, task, "?", ("a dish of rice",), gold=json.dumps(gold), group="1")
    results = Results()
    results.add("finetune", [question], [Failed("out of memory")])
    (answer,) = results.answers["finetune"]
    assert (answer.text, answer.score, answer.failed) == ("", 0.0, "out of memory")
    assert results.metrics["finetune"][task]["failed"] == 1


TASKS = {task: name for name, module in {**BENCHMARKS, **PUBLISHED}.items() for task in module.TASKS}
NUTRITION = dict.fromkeys(map(str, NUTRITION_FIELDS), 20.0)
GOOD: dict[str, tuple[str, object]] = {  # a right answer and its gold
    "ingredients": ("The ingredients include rice.", ["rice"]),
    "recipe": ("Boil rice", None),
    "nutrition": (nutrition_answer(NUTRITION), NUTRITION),
    "choice": ("A", "A"),
    "mmbench": ("A", {"answer": "A", "options": {"A": "x"}, "category": ""}),
    **dict.fromkeys(("seed_image", "seed_video"), ("A", {"answer": "A", "options": {"A": "x"}, "dimension": ""})),
    **dict.fromkeys(("caption", "chat"), ("a red dish", None)),
    **{task: ("yes", "yes") for task in TASKS if task.startswith(("pope", "mme"))},
}


def asked_about(task: str, number: int) -> list[Question]:
    """Two questions about each image: of MME both count together, of MMBench they are rotations."""
    text, gold = GOOD[task]
    return [
        Question(
            str(n if n % 2 else n + 1_000_000), TASKS[task], task, "?", (text,), json.dumps(gold), group=str(n // 2)
        )
        for n in range(number)
    ]


def compared(task: str, number: int) -> tuple[Results, dict[str, dict[str, Any]]]:
    """The fine-tuned row is right; the blind row is right in the first half."""
    asked, results = asked_about(task, number), Results()
    wrong = "no" if GOOD[task][0] == "yes" else "-"  # to POPE's rule everything but no is yes
    results.add("finetune", asked, [GOOD[task][0]] * number)
    results.add("blind", asked, [GOOD[task][0] if n < number // 2 else wrong for n in range(number)])
    return results, differences(results, resamples=100, seed=1)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_s_main_metric_is_compared_with_blind(task: str) -> None:
    results, found = compared(task, 24)
    main = scored(TASKS[task]).MAIN[task].name
    entry = found[f"{task}.{main} finetune - blind"]
    finetune, blind = (results.metrics[row][task][main] for row in ("finetune", "blind"))
    assert entry["value"] == pytest.approx(finetune - blind)
    assert abs(entry["value"]) > 0.2
    assert entry["low"] < entry["value"] < entry["high"]
    assert entry["questions"] == 24
    assert "24 questions" in difference_line("x", entry)


@pytest.mark.parametrize("task", ["ingredients", "caption", "chat", "mme_count"])
def test_below_ten_questions_there_is_no_interval(task: str) -> None:
    _, found = compared(task, 8)
    for name, entry in found.items():
        assert (entry["low"], entry["high"], entry["questions"]) == (None, None, 8)
        assert "8 questions" in difference_line(name, entry)
        assert "too few for an interval" in difference_line(name, entry)


def test_only_main_metrics_are_bootstrapped() -> None:
    results, _ = compared("ingredients", 12)
    with pytest.raises(AssertionError, match="f1 is not the main metric"):
        paired("ingredients.f1", results.answers["finetune"], results.answers["blind"], "-")


def photographed(sizes: list[int], right: list[float]) -> Results:
    """Captions of dishes that were photographed so many times; the fine-tuned row is right on a share of the dishes."""
    questions = [
        Question(f"{dish}-{n}", "flickr30k", "caption", "?", ("a red dish",), group=f"dish {dish}")
        for dish, size in enumerate(sizes)
        for n in range(size)
    ]
    results = Results()
    said = ["a red dish" if right[int(question.group.split()[1])] else "a boat" for question in questions]
    results.add("finetune", questions, said)
    results.add("blind", questions, ["a boat"] * len(questions))
    return results


def test_many_photos_of_few_dishes_give_no_interval() -> None:
    (entry,) = differences(photographed([20, 1, 1], [1.0, 0.0, 1.0]), resamples=50, seed=1).values()
    assert (entry["questions"], entry["groups"]) == (22, 3)
    assert (entry["low"], entry["high"]) == (None, None)
    line = difference_line("caption.rouge_l", entry)
    assert "22 questions in 3 groups, too few for an interval" in line


def test_photos_of_one_dish_are_drawn_together() -> None:
    right = [float(n % 2) for n in range(12)]
    often, once = (photographed([size] * 12, right) for size in (6, 1))
    (many,), (few,) = (differences(one, resamples=400, seed=1).values() for one in (often, once))
    assert many["groups"] == 12
    assert "groups" not in few
    for end in ("value", "low", "high"):  # six photos of each dish say no more than one
        assert many[end] == pytest.approx(few[end])


def test_value_is_a_mean_over_questions_whatever_the_groups() -> None:
    results = photographed([3, 1] * 8, [1.0, 0.0] * 8)
    (entry,) = differences(results, resamples=50, seed=1).values()
    scores = [results.metrics[row]["caption"]["rouge_l"] for row in ("finetune", "blind")]
    assert entry["value"] == pytest.approx(scores[0] - scores[1])


def test_printed_table_says_its_units() -> None:
    metrics = {"base": {"ingredients": {"iou": 0.5}, "recipe": {"rouge_l": 0.4}}, "mean": {"nutrition": {"pmae": 54.3}}}
    names = ["ingredients.iou", "recipe.rouge_l", "nutrition.pmae", "chat.rouge_l"]
    assert printed_table(metrics, names) == [
        ["", "ingredients.iou", "recipe.rouge_l %", "nutrition.pmae %"],
        ["base", "0.500", "0.4", "-"],
        ["mean", "-", "-", "54.3"],
    ]
