from __future__ import annotations

import json

import numpy as np
import pytest

from components.evaluation.bootstrap import Interval
from components.evaluation.main_metric import mean
from components.evaluation.question import Question
from components.evaluation.results import Results
from components.params import Params
from components.tables.chance import at_chance
from components.tables.claims import Claim, claims_of, verdicts
from components.tables.measured import Row, Trial, differences
from components.tables.order import agreements, sentence
from components.tables.record import markdown, record
from components.tables.resampling import over_seeds_and_images
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
        (5, 1, "does not appear at this scale: of 10 comparisons of two rows in one column, 5 come"),
    ],
)
def test_sentence_claims_no_more_than_was_counted(alike: int, seeds: int, said: str) -> None:
    text = sentence(alike, 1, 10, seeds, ["Dual-LoRA"], ["RoDE"], "IoU")
    assert said in text
    assert "1 is exactly level" in text
    assert ("nothing is known of the spread" in text) == (seeds == 1)
    assert "Dual-LoRA is above and RoDE is below the first row" in text
    several = sentence(alike, 1, 10, seeds, ["both", "both, released", "VCE"], ["A", "B"], "IoU")
    assert 'In IoU, "both", "both, released" and "VCE" are above and A and B are below the first' in several
    assert "no row is above or below the first row" in sentence(alike, 0, 10, seeds, [], [], "IoU")


def test_record_holds_what_the_report_reads(params: Params) -> None:
    rows = [row("LoRA", 1, 2, published="LoRA"), row("Dual-LoRA", 3, 4, published="Dual-LoRA")]
    shown = [answer.question.name for answer in rows[0].trials[0].answers[:1]]
    table = record(STUDIES["table1"], rows, params=params, data={"s": "d"}, shown=shown)
    assert table["seeds"] == [0, 1]
    assert [run["run"] for run in table["rows"][0]["runs"]] == ["finetune-0", "finetune-1"]
    said = "The ingredients include rice and egg."
    assert table["answers"] == {"unifood/s/0ingredients": {"LoRA": said, "Dual-LoRA": said}}
    assert "of 2 comparisons of two rows in one column, 2 come" in table["order"]  # IoU and F1, as in Table 1
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
    assert "In accuracy, Dual-LoRA is above the first row by more than" in said


def test_best_and_worst_of_ten_seeds_are_left_out_of_mean_and_spread() -> None:
    entry = row("a", 0, 4, *[2] * 8).figures()["ingredients.iou"]
    assert (entry["mean"], entry["sd"], len(entry["values"])) == (0.5, 0, 10)


def width(interval: Interval) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def test_questions_about_one_image_count_as_one() -> None:
    """Copies of a question about the same image narrow no interval; of other images they do."""
    scores = np.tile([0.0, 1.0, 1.0, 0.0], 5)[None, :, None]
    alone, copied = list(range(20)), [number // 10 for number in range(200)]
    lone = over_seeds_and_images(scores, alone, mean, resamples=2000, seed=1)
    tenfold = over_seeds_and_images(np.repeat(scores, 10, axis=1), copied, mean, resamples=2000, seed=1)
    apart = over_seeds_and_images(np.repeat(scores, 10, axis=1), list(range(200)), mean, resamples=2000, seed=1)
    assert tenfold == lone
    assert width(apart) < 0.5 * width(lone)


def test_seeds_that_disagree_widen_the_interval() -> None:
    alike, apart = np.full((4, 40, 1), 0.5), np.stack([np.full((40, 1), level) for level in (0, 0, 1, 1)])
    narrow, wide = (over_seeds_and_images(s, list(range(40)), mean, resamples=500, seed=1) for s in (alike, apart))
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    assert width(wide) > 0.4


@pytest.mark.parametrize(("right", "verdict"), [(4, "holds"), (1, "undecided"), (0, "does not hold")])
def test_claim_is_judged_by_the_interval(right: int, verdict: str) -> None:
    rows = [row("LoRA", 1, 1), row("Dual-LoRA", right, right)]
    claims = [Claim("Dual-LoRA is better", "Dual-LoRA", "LoRA"), Claim("of a row that is not there", "RoDE", "LoRA")]
    (found,) = verdicts(claims, rows, ["ingredients.iou", "caption.rouge_l"], resamples=400, seed=1)
    assert found["verdict"] == verdict
    assert found["said"].startswith(f"Dual-LoRA is better: {verdict} in ingredients IoU ")


def test_claims_name_rows_that_there_are(params: Params) -> None:
    for name, one in STUDIES.items():
        rows = [Row(variant.name, variant.settings, variant.row) for variant in one.variants(params)]
        named = {name for claim in claims_of(name, rows) for name in (claim.better, claim.worse)}
        assert named <= {one.name for one in rows}
        assert named or name == "forms"


def choosing(name: str, right: int) -> Row:
    """A row that answers the first `right` of 40 questions with two options each."""
    asked = [
        Question(f"{n}", "scienceqa", "choice", "Which?\nA. rice\nB. egg\nAnswer.", ("A",), gold='"A"', source="s")
        for n in range(40)
    ]
    results = Results()
    results.add("finetune", asked, ["A" if n < right else "B" for n in range(40)])
    made = Row(name, {}, None)
    made.trials.append(Trial(1, "finetune-1", results.metrics["finetune"], results.answers["finetune"], 2))
    return made


def test_multiple_choice_at_chance_is_left_out_with_its_reason() -> None:
    said = at_chance([choosing("a", 18), choosing("b", 22)], resamples=400, seed=1)
    assert said is not None
    assert "50.0 % of 40 questions are answered right, and chance is 50.0 %" in said
    assert at_chance([choosing("a", 38), choosing("b", 36)], resamples=400, seed=1) is None
    assert at_chance([row("a", 1)], resamples=400, seed=1) is None
