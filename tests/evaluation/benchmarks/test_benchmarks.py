"""What every benchmark in the table must do, and each one's own rule."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.data import tasks
from components.data.schema import IMAGE_MARKER, Row, Sample, Turn
from components.errors import UserError
from components.evaluation import benchmarks
from components.evaluation.benchmarks import (
    BENCHMARKS,
    JUDGED,
    MODULES,
    PUBLISHED,
    Benchmark,
    Judged,
    Published,
    benchmark,
    chat,
    flickr30k,
    scienceqa,
    unifood,
)

NUTRITION = [320.0, 450.0, 12.0, 20.0, 55.0]


def nutrition(factor: float) -> dict[str, float]:
    return {field: factor * value for field, value in zip(tasks.NUTRITION_FIELDS, NUTRITION, strict=True)}


def dishes() -> list[Row]:
    return [
        Row(
            f"dish{number}",
            [
                tasks.ingredients_sample(f"{number}i", ["rice", "egg", f"herb {number}"]),
                tasks.recipe_sample(f"{number}r", f"Boil the rice for {number} minutes. Fry the egg."),
                tasks.nutrition_sample(f"{number}n", nutrition(number)),
            ],
            image=f"picture {number}".encode(),
            image_hash=f"hash {number}",
        )
        for number in (1, 2)
    ]


def choices() -> list[Row]:
    seen = tasks.choice_sample("1", "What is it?", ["a dog", "a cat"], 1)
    read = tasks.choice_sample("2", "Which is a plant?", ["a fern", "a cat"], 0, hint="Look.", image=False)
    return [Row("1", [seen], image=b"picture", image_hash="hash"), Row("2", [read])]


def captions() -> list[Row]:
    samples = [
        tasks.caption_sample(f"1#{n}", text) for n, text in enumerate(["a man cooks rice", "someone fries an egg"])
    ]
    return [Row("1", samples, image=b"picture", image_hash="hash")]


def conversations() -> list[Row]:
    def sample(id: str, question: str, answer: str) -> Sample:
        return Sample(id, "chat", [Turn("human", question), Turn("assistant", answer)])

    seen = sample("1", f"{IMAGE_MARKER}\nWhat is on the table?", "A bowl of soup.")
    read = sample("2", "Is soup a dish?", "Yes")
    return [Row("1", [seen], image=b"picture", image_hash="hash"), Row("2", [read])]


ROWS: dict[str, Callable[[], list[Row]]] = {
    "unifood": dishes,
    "scienceqa": choices,
    "flickr30k": captions,
    "chat": conversations,
}


def test_table_names_are_those_tested_here() -> None:
    assert set(BENCHMARKS) == set(ROWS)


def test_one_table_names_every_benchmark_s_module() -> None:
    folder = Path(benchmarks.__file__).parent
    assert {module.NAME for module in MODULES} == {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {*BENCHMARKS, *PUBLISHED, *JUDGED} == {module.NAME for module in MODULES}
    assert not JUDGED.keys() & {*BENCHMARKS, *PUBLISHED}


@pytest.mark.parametrize(
    ("table", "protocol"), [(BENCHMARKS, Benchmark), (PUBLISHED, Published), (JUDGED, Judged)], ids=str
)
def test_modules_hold_what_their_protocol_names(table: dict[str, Any], protocol: Any) -> None:
    for name, module in table.items():
        lacking = [member for member in vars(protocol) if not member.startswith("_") and not hasattr(module, member)]
        assert not lacking, name
        assert set(getattr(module, "MAIN", module.TASKS)) == set(module.TASKS), name


@pytest.mark.parametrize("name", [*PUBLISHED, *JUDGED])
def test_published_benchmark_names_its_rules(name: str) -> None:
    module = {**PUBLISHED, **JUDGED}[name]
    assert name == module.NAME
    for rule in list(module.RULES)[1:]:
        assert f"`{rule}`" in (module.__doc__ or ""), "another rule is explained by name"


def test_unknown_benchmark_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"unifod.*known: unifood"):
        benchmark("unifod")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_docstring_names_the_rule(name: str) -> None:
    assert "Rule: " in (BENCHMARKS[name].__doc__ or "")
    assert name == BENCHMARKS[name].NAME


@pytest.mark.parametrize("name", BENCHMARKS)
def test_questions_hold_what_was_asked_and_not_the_answer(name: str) -> None:
    for question in BENCHMARKS[name].from_rows(ROWS[name]()):
        assert question.benchmark == name
        assert question.task in BENCHMARKS[name].TASKS
        assert IMAGE_MARKER not in question.text
        assert question.text
        assert question.references
        assert (question.image is None) == (question.image_hash is None)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_true_answers_are_perfect_and_silence_is_not(name: str) -> None:
    asked = BENCHMARKS[name].from_rows(ROWS[name]())
    best = BENCHMARKS[name].score(asked, [question.references[0] for question in asked])
    worst = BENCHMARKS[name].score(asked, [""] * len(asked))
    for task, metrics in best.metrics.items():
        for metric, value in metrics.items():
            is_error = task == "nutrition"
            assert value == pytest.approx(0 if is_error else 100 if metric in ("bleu", "rouge_l") else 1), metric
            assert worst.metrics[task][metric] == pytest.approx(
                0 if not is_error else 2 if metric == "unparsed" else 100
            )
    assert len(best.each) == len(asked)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_of_other_tasks_ask_nothing(name: str) -> None:
    others = [row for other in ROWS if other != name for row in ROWS[other]()]
    assert BENCHMARKS[name].from_rows(others) == []
    assert BENCHMARKS[name].score([], []).metrics == {}


def test_score_of_each_question_averages_to_the_main_metric() -> None:
    asked = unifood.from_rows(dishes())
    answers = [
        "The ingredients include rice and salt.",
        "Boil rice.",
        tasks.nutrition_answer(nutrition(2)),
        "The ingredients include egg.",
        "Fry the egg.",
        "no idea",
    ]
    scores = unifood.score(asked, answers)
    mean = {task: sum(scores.each[place::3]) / 2 for place, task in enumerate(unifood.TASKS)}
    assert (
        mean["ingredients"] == pytest.approx(scores.metrics["ingredients"]["iou"]) == pytest.approx((1 / 4 + 1 / 3) / 2)
    )
    assert mean["recipe"] == pytest.approx(scores.metrics["recipe"]["rouge_l"])
    assert mean["nutrition"] == pytest.approx(scores.metrics["nutrition"]["pmae"])
    assert scores.metrics["nutrition"]["unparsed"] == 1
    assert scores.metrics["nutrition"]["mass"] == pytest.approx(100 * (320 + 640) / 2 / 480)


def test_recipe_is_scored_without_its_opening_words() -> None:
    asked = [question for question in unifood.from_rows(dishes()) if question.task == "recipe"][:1]
    assert unifood.score(asked, ["The instructions are as follows: wash a carrot"]).metrics["recipe"]["rouge_l"] == 0


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("B", True),
        ("B. a cat", True),
        ("The answer is B.", True),
        ("b", False),
        ("a cat", False),
        ("C", False),
        ("", False),
    ],
)
def test_scienceqa_follows_llavas_rule(answer: str, right: bool) -> None:
    asked = scienceqa.from_rows(choices())
    metrics = scienceqa.score(asked, [answer, "A"]).metrics["choice"]
    assert metrics == {"accuracy": (1 + right) / 2, "accuracy_image": float(right)}


def test_flickr30k_asks_once_for_an_image() -> None:
    (question,) = flickr30k.from_rows(captions())
    assert question.text == tasks.CAPTION_QUESTION
    assert question.references == ("a man cooks rice", "someone fries an egg")
    scores = flickr30k.score([question], ["someone fries an egg"])
    assert scores.metrics["caption"]["rouge_l"] == 100


def test_chat_compares_short_answers_but_for_case_spaces_and_the_last_stop() -> None:
    asked = chat.from_rows(conversations())
    scores = chat.score(asked, ["a bowl of  soup", "Yes."])
    assert scores.metrics["chat"] == {"rouge_l": 100.0, "exact": 1.0}
    scores = chat.score(asked, ["a bowl of rice", "No"])
    assert scores.metrics["chat"]["exact"] == 0.0
    assert scores.each == pytest.approx([75.0, 0.0])  # three of four words in order
