from __future__ import annotations

import copy

from components.report.figures import Figure, figure
from components.report.results import differences, metrics_table

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


def test_blind_has_no_figure_over_questions_that_it_was_not_asked() -> None:
    """Blind is asked only what has an image: 31.4 of 105 questions must not stand beside 34.1 of 85."""
    metrics = {
        "finetune": {"choice": {"accuracy": 0.314, "accuracy_image": 0.353}},
        "blind": {"choice": {"accuracy": 0.341, "accuracy_image": 0.341}},
    }
    fewer = {"finetune": {"choice": 105}, "blind": {"choice": 85}}
    blind = metrics_table(metrics, fewer).rows[-1][2]
    assert [cell.text for cell in blind] == ["–", "34.1"]
    same = {"finetune": {"choice": 85}, "blind": {"choice": 85}}
    assert [cell.text for cell in metrics_table(metrics, same).rows[-1][2]] == ["34.1", "34.1"]


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


def test_an_interval_of_few_questions_is_not_shown() -> None:
    asked = {"finetune": {"ingredients": 9}, "blind": {"ingredients": 9}}
    first = differences(METRICS, asked)[0]
    assert (first.low, first.interval, first.good) == (None, "–", None)
    assert first.verdict == "too few questions (9)"
    ten = {"finetune": {"ingredients": 10}, "blind": {"ingredients": 10}}
    assert differences(METRICS, ten)[0].verdict == "better"


def test_a_difference_may_come_without_an_interval() -> None:
    metrics = {"differences": {"chat.rouge_l finetune - blind": {"value": 3.0, "low": None, "high": None}}}
    assert differences(metrics)[0].verdict == "no interval measured"


def test_number_of_questions_is_the_entry_s_own_where_it_has_one() -> None:
    metrics = copy.deepcopy(METRICS)
    metrics["differences"]["ingredients.iou finetune - blind"]["questions"] = 12
    asked = {"finetune": {"ingredients": 99}, "blind": {"ingredients": 99}}
    assert [one.questions for one in differences(metrics, asked)] == [12, 99, None]


def test_main_metric_of_each_task_is_marked_and_explained() -> None:
    metrics = {"finetune": {"ingredients": {"f1": 0.5, "iou": 0.4}, "counting": {"exact": 0.1, "near": 0.2}}}
    columns = metrics_table(metrics).columns
    assert [(column.name, column.main) for column in columns] == [
        ("F1", False),
        ("IoU", True),
        ("exact", True),
        ("near", False),
    ]
    assert columns[1].meaning.startswith("which ingredients the pictured dish has; ")
    assert columns[0].meaning.startswith("balance of")
