"""Every metric that a benchmark can emit has its row in the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.data import tasks
from components.data.schema import Row
from components.evaluation.benchmarks import BENCHMARKS, JUDGED, PUBLISHED
from components.evaluation.benchmarks import mm_vet as mm_vet_module
from components.evaluation.benchmarks.mme import PERCEPTION
from components.evaluation.judge.grades import Grade
from components.evaluation.offline.findings import Findings
from components.evaluation.question import Question
from components.metrics import COMPARED, METRICS, PRINTED, find, flat_metrics, metric

NUTRITION: dict[str, float] = dict.fromkeys(tasks.NUTRITION_FIELDS, 100.0)
SAMPLES = [
    tasks.ingredients_sample("i", ["rice"]),
    tasks.recipe_sample("r", "boil rice"),
    tasks.nutrition_sample("n", NUTRITION),
    tasks.choice_sample("c", "which", ["rice", "corn"], 0),
    tasks.caption_sample("p#0", "a plate of rice"),
]
CHAT = Question("1", "chat", "chat", "What is it?", ("Rice.",))
POPE = [Question("1", "pope", f"pope_{kind}", "Is it?", ("yes",), '"yes"') for kind in ("random", "popular")]
OPTIONS = {"A": "rice", "B": "corn"}


def asked(name: str) -> list[Question]:
    """Questions of which some are answered rightly by "yes" or "A" and others wrongly."""
    if name in ("unifood", "scienceqa", "flickr30k"):
        return BENCHMARKS[name].from_rows([Row("row", SAMPLES, b"image", "hash")])
    choice = {"answer": "A", "options": OPTIONS}
    return {
        "chat": [CHAT],
        "pope": POPE,
        "mme": [
            Question(f"{n}", "mme", f"mme_{task}", "Is it?", ("Yes",), '"Yes"', group=task)
            for n, task in enumerate((*PERCEPTION, "code_reasoning"))
        ],
        "mmbench": [
            Question("1", "mmbench", "mmbench", "", (), json.dumps({**choice, "category": "coarse"}), group="1")
        ],
        "seed_bench": [
            Question(task, "seed_bench", task, "", (), json.dumps({**choice, "dimension": "Scene Understanding"}))
            for task in ("seed_image", "seed_video")
        ],
    }[name]


@pytest.mark.parametrize("name", sorted({*BENCHMARKS, *PUBLISHED}))
def test_every_metric_of_a_benchmark_has_a_row(name: str) -> None:
    questions = asked(name)
    bench = PUBLISHED[name] if name in PUBLISHED else BENCHMARKS[name]
    for answer in ("yes", "A", None):
        emitted = flat_metrics(bench.score(questions, [answer] * len(questions)).metrics)
        assert emitted
        assert [key for key in emitted if find(key) is None] == []
    for rule in PUBLISHED[name].RULES if name in PUBLISHED else ():
        emitted = flat_metrics(PUBLISHED[name].score(questions, ["yes"] * len(questions), rule).metrics)
        assert [key for key in emitted if find(key) is None] == []


def test_main_metrics_have_a_direction_and_those_compared_are_main() -> None:
    benches = (*BENCHMARKS.values(), *PUBLISHED.values())
    main = {f"{task}.{main.name}" for bench in benches for task, main in bench.MAIN.items()}
    assert all(metric(name).direction for name in main)
    assert set(COMPARED) <= main


@pytest.mark.parametrize("name", sorted(JUDGED))
def test_every_metric_of_a_judged_benchmark_has_a_row(name: str) -> None:
    gold = json.dumps({"capability": ["ocr", "math"]})
    questions = [Question("1", name, name, "", (), gold)]
    scores = ((0.5,),) if JUDGED[name] is mm_vet_module else ((8.0, 6.0),)
    grades = [Grade("1", scores, 0, "judge", "conv")]
    emitted = flat_metrics(JUDGED[name].summary(grades, questions, "", Path("grades"), Findings()))
    assert [key for key in emitted if find(key) is None] == []
    assert len(emitted) > 2


def test_own_rows_come_before_families() -> None:
    assert metric("seed_image.accuracy").printed
    assert metric("seed_Scene Understanding.accuracy").name == "seed_*.accuracy"
    assert metric("mm_vet.score").name == "mm_vet.score"
    assert metric("ingredients.failed").direction == "lower"
    with pytest.raises(KeyError, match="has no row"):
        metric("ingredients.iuo")


def test_names_are_unique_and_families_are_neither_printed_nor_compared() -> None:
    names = [row.name for row in METRICS]
    assert len(set(names)) == len(names)
    assert not [name for name in (*PRINTED, *COMPARED) if "*" in name]


def test_gain_knows_the_direction() -> None:
    assert metric("ingredients.iou").gain(0.7, 0.5) == pytest.approx(0.2)
    assert metric("nutrition.unparsed").gain(9, 5) == -4
    with pytest.raises(ValueError, match="no direction"):
        metric("mm_vet.std").gain(1, 2)


def test_flat_metrics_leave_out_what_is_no_number() -> None:
    row = {"ingredients": {"iou": 0.5, "f1": None}, "recipe": {"bleu": float("nan"), "rouge_l": 3}}
    assert flat_metrics(row) == {"ingredients.iou": 0.5, "recipe.rouge_l": 3.0}


def test_report_and_scores_agree_with_the_table() -> None:
    from components.report.figures import COUNTS, FIGURES

    for name, figure in FIGURES.items():
        row = metric(name)
        assert (figure.factor == 100) == (row.scale == "share"), name
        assert figure.higher_is_better == (row.direction == "higher"), name
    assert {row.name.rpartition(".")[2] for row in METRICS if row.scale == "count"} <= COUNTS
    for name, bench in PUBLISHED.items():
        emitted = flat_metrics(bench.score(asked(name), ["A"] * len(asked(name))).metrics)
        shares = {key.rpartition(".")[2] for key in emitted if metric(key).scale == "share"}
        assert shares == set(bench.SHARES), name
