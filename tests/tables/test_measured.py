from __future__ import annotations

import json

import pytest

from components.evaluation.question import Question
from components.evaluation.results import Results
from components.params import Params
from components.tables.measured import Row, Trial, differences
from components.tables.order import agreements, sentence
from components.tables.record import markdown, record
from components.tables.variants import STUDIES

DISHES = 3 * [["rice", "egg"], ["rice", "corn"], ["egg", "corn"], ["rice", "lemon"]]


def question(number: int, task: str, reference: str, gold: object) -> Question:
    return Question(f"{number}{task}", "unifood", task, "?", (reference,), gold=json.dumps(gold), source="s")


def trial(seed: int, right: int) -> Trial:
    """Answers of which the first `right` of every four are true and the rest name nothing."""
    asked = [question(n, "ingredients", f"The ingredients include {' and '.join(d)}.", d) for n, d in enumerate(DISHES)]
    results = Results()
    results.add("finetune", asked, [q.references[0] if n % 4 < right else "" for n, q in enumerate(asked)])
    return Trial(seed, f"finetune-{seed}", results.metrics["finetune"], results.answers["finetune"], 2048)


def row(name: str, *right: int, published: str | None = None) -> Row:
    made = Row(name, {"adapter.kind": "lora"}, published)
    made.trials += [trial(seed, count) for seed, count in enumerate(right)]
    return made


def test_mean_and_spread_are_over_seeds() -> None:
    figures = row("a", 1, 2, 3).figures()["ingredients.iou"]
    assert figures == {"mean": 0.5, "sd": pytest.approx(0.25), "values": [0.25, 0.5, 0.75]}
    assert row("a", 1).figures()["ingredients.iou"]["sd"] is None


def test_difference_of_means_over_seeds_with_its_interval() -> None:
    found = differences([row("base", 1, 1), row("better", 4, 4), row("same", 1, 1)], resamples=400, seed=1)
    better, same = (found[f"ingredients.iou: {name} - base"] for name in ("better", "same"))
    assert better["value"] == pytest.approx(0.75)
    assert 0 <= better["low"] < better["value"] < better["high"] <= 1
    assert (same["low"], same["value"], same["high"]) == (0, 0, 0)
    assert better["questions"] == 12


def test_few_questions_give_no_difference() -> None:
    rows = [row("base", 1), row("better", 4)]
    for one in rows:
        one.trials = [Trial(t.seed, t.run, t.metrics, t.answers[:9], t.adapter_bytes) for t in one.trials]
    assert differences(rows, resamples=100, seed=1) == {}


def test_order_counts_pairs_of_rows_in_every_column() -> None:
    published = {"a": [1.0, 5.0], "b": [2.0, 5.0], "c": [3.0, 4.0]}
    here = {"a": [0.1, 7.0], "b": [0.3, 7.0], "c": [0.2, 7.0]}
    # First column: a < b and a < c as printed, b > c not; second: a and b are level in print, c is level here.
    assert agreements(published, here, 2) == (2, 2, 5)


@pytest.mark.parametrize(
    ("alike", "seeds", "said"),
    [
        (10, 3, "order appears at this scale"),
        (8, 3, "appears in part"),
        (5, 1, "does not appear at this scale: 5 of 10"),
    ],
)
def test_sentence_claims_no_more_than_was_counted(alike: int, seeds: int, said: str) -> None:
    text = sentence(alike, 1, 10, seeds, ["Dual-LoRA"], ["RoDE"], "IoU")
    assert said in text
    assert "1 pair scores exactly the same here" in text
    assert ("nothing is known of the spread" in text) == (seeds == 1)
    assert "Dual-LoRA above and RoDE below the first row" in text
    assert "no row above or below the first row" in sentence(alike, 0, 10, seeds, [], [], "IoU")


def test_record_holds_what_the_report_reads(params: Params) -> None:
    rows = [row("LoRA", 1, 2, published="LoRA"), row("Dual-LoRA", 3, 4, published="Dual-LoRA")]
    shown = [answer.question.name for answer in rows[0].trials[0].answers[:1]]
    table = record(STUDIES["table1"], rows, params=params, data={"s": "d"}, shown=shown)
    assert table["seeds"] == [0, 1]
    assert [run["run"] for run in table["rows"][0]["runs"]] == ["finetune-0", "finetune-1"]
    said = "The ingredients include rice and egg."
    assert table["answers"] == {"unifood/s/0ingredients": {"LoRA": said, "Dual-LoRA": said}}
    assert "2 of 2 pairs" in table["order"], "IoU and F1, as in the paper's Table 1"
    text = markdown(table)
    assert "| LoRA | 37.5\u00a0±\u00a017.7 |" in text
    assert "| Dual-LoRA | +50.0 (" in text
    assert table["order"] in text


def test_a_seed_in_which_no_question_failed_counts_none() -> None:
    made = row("a", 1, 2)
    made.trials[1].metrics["ingredients"]["failed"] = 2.0  # pyright: ignore[reportIndexIssue]
    assert made.figures()["ingredients.failed"]["values"] == [0, 2]


def test_the_order_s_sentence_speaks_of_a_metric_that_was_measured(params: Params) -> None:
    rows = [row("LoRA", 1, published="LoRA"), row("Dual-LoRA", 4, published="Dual-LoRA")]
    for one in rows:
        for trial_ in one.trials:
            asked = [Question(f"{n}", "scienceqa", "choice", "?", ("A",), gold='"A"') for n in range(12)]
            results = Results()
            results.add("finetune", asked, ["A" if one.name == "Dual-LoRA" else "B"] * 12)
            one.trials = [Trial(trial_.seed, trial_.run, results.metrics["finetune"], results.answers["finetune"], 1)]
    said = record(STUDIES["table1"], rows, params=params, data={"s": "d"}, shown=[])["order"]
    assert "in accuracy, Dual-LoRA above the first row by more than" in said
