from __future__ import annotations

import copy

import pytest

from components.report.figures import Figure, figure
from components.report.results import differences, headline, metrics_table

METRICS = {
    "base": {"ingredients": {"iou": 0.1}, "nutrition": {"pmae": 60.0, "unparsed": 3}},
    "finetune": {"ingredients": {"iou": 0.8}, "nutrition": {"pmae": 50.0, "unparsed": 0}},
    "mean": {"nutrition": {"pmae": 48.0}},
    "differences": {
        "ingredients.iou finetune - blind": {"value": 0.6, "low": 0.5, "high": 0.7, "confidence": 0.95},
        "ingredients.iou finetune / blind": {"value": 4.0, "low": 3.0, "high": 5.0, "confidence": 0.95},
        "nutrition.pmae finetune - mean": {"value": -3.0, "low": -5.0, "high": 1.0, "confidence": 0.95},
    },
}


def changed(low: float, high: float) -> dict:
    metrics = copy.deepcopy(METRICS)
    metrics["differences"]["ingredients.iou finetune - blind"] |= {"low": low, "high": high, "value": (low + high) / 2}
    return metrics


def test_table_marks_the_lowest_error_and_the_highest_score() -> None:
    table = metrics_table(METRICS)
    best = {label: [cell.best for cell in cells] for label, _, cells in table.rows}
    assert best == {
        "base model": [False, False],
        "after stage 2": [True, False],
        "mean of training data": [False, True],
    }


def test_table_has_a_dash_where_a_row_was_not_asked() -> None:
    table = metrics_table(METRICS)
    assert [cell.text for cell in table.rows[-1][2]] == ["–", "48.0"]


def test_table_leaves_counts_out() -> None:
    assert [column.name for column in metrics_table(METRICS).columns] == ["IoU", "pMAE"]


def test_best_is_shared_by_values_that_print_alike() -> None:
    assert Figure("x").best([1.01, 1.04, 0.5]) == {0, 1}
    assert Figure("x").best([1.01, 1.04, None]) == set()


def test_unknown_metric_is_printed_as_it_stands() -> None:
    assert figure("mme.perception").text(1311.3) == "1311.30"


def test_difference_is_in_printed_units_and_a_ratio_is_not() -> None:
    points, ratio, error = differences(METRICS)
    assert (points.text, points.interval) == ("+60.0", "+50.0 to +70.0")
    assert (ratio.text, ratio.interval) == ("4.00 ×", "3.00 to 5.00")
    assert error.verdict == "undecided"


def test_lower_error_counts_as_better() -> None:
    metrics = copy.deepcopy(METRICS)
    metrics["differences"]["nutrition.pmae finetune - mean"]["high"] = -1.0
    assert differences(metrics)[2].verdict == "better"


@pytest.mark.parametrize(
    ("low", "high", "claim"),
    [
        (0.5, 0.7, "The model learnt to use the image"),
        (-0.1, 0.1, "It is not shown that the model uses the image"),
        (-0.3, -0.1, "The model does worse"),
    ],
)
def test_headline_claims_what_the_interval_allows(low: float, high: float, claim: str) -> None:
    assert headline(changed(low, high)).claim.startswith(claim)


def test_headline_says_score_gap_and_interval_in_one_sentence() -> None:
    assert headline(METRICS).text.replace("\u00a0", " ") == (
        "The model learnt to use the image: ingredients IoU 80.0 on held-out images, 60.0 points above the same model "
        "shown the wrong image (95 % interval of the difference +50.0 to +70.0)."
    )


def test_headline_claims_nothing_without_a_comparison() -> None:
    assert "nothing is claimed" in headline({"finetune": {"ingredients": {"iou": 0.9}}}).text
