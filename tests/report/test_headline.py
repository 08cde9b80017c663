"""The headline claims what every task's comparison with wrong images allows, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from components.report.headline import against_blind, headline


def metrics(*intervals: tuple[float, float], **more: Any) -> dict[str, Any]:
    """Ingredients, then captions, each with an interval of the gain in points."""
    names = ("ingredients.iou", "caption.rouge_l")[: len(intervals)]
    found: dict[str, Any] = {"finetune": {}, "blind": {}, "differences": {}}
    for name, (low, high) in zip(names, intervals, strict=True):
        task, _, metric = name.partition(".")
        scale = 100 if metric == "iou" else 1
        found["finetune"][task] = {metric: (40 + (low + high) / 2) / scale}
        found["blind"][task] = {metric: 40 / scale}
        entry = {"value": (low + high) / 2 / scale, "low": low / scale, "high": high / scale, "confidence": 0.95}
        found["differences"][f"{name} finetune - blind"] = entry
    return found | more


@pytest.mark.parametrize(
    ("intervals", "claim"),
    [
        ([(50, 70)], "The model uses its image"),
        ([(50, 70), (1, 5)], "The model uses its image"),
        ([(50, 70), (-1, 5)], "The model uses its image in 1 of 2 tasks"),
        ([(-10, 10)], "It is not shown that the model uses its image"),
        ([(-10, 10), (-1, 1)], "It is not shown that the model uses its image in any of 2 tasks"),
        ([(50, 70), (-5, -1)], "The model does worse with the right image than with a wrong one in 1 of 2 tasks"),
        ([(-30, -10)], "The model does worse with the right image than with a wrong one in the one task compared"),
    ],
)
def test_headline_claims_what_the_intervals_allow(intervals: list[tuple[float, float]], claim: str) -> None:
    assert headline(metrics(*intervals)).claim == claim


def test_captions_alone_are_compared_with_blind() -> None:
    """A run on photos: a difference of captions stands in metrics.json, and the headline is about captions."""
    found = metrics((1, 2), (1.2, 5.1))
    for part in ("finetune", "blind"):
        del found[part]["ingredients"]
    found["differences"] = {k: v for k, v in found["differences"].items() if k.startswith("caption")}
    said = headline(found, {"finetune": {"caption": 300}, "blind": {"caption": 300}})
    assert said.claim == "The model uses its image"
    assert said.evidence[0].replace("\u00a0", " ") == (
        "caption ROUGE-L 43.1, shown another image 40.0: 3.1 points better "
        "(95 % interval of the gain +1.2 to +5.1; 300 questions)"
    )


def test_scores_without_an_interval_are_shown_and_decide_nothing() -> None:
    found = metrics((50, 70)) | {"differences": {}}
    said = headline(found)
    assert "is not known" in said.claim
    assert "60.0 points better; no interval was measured" in said.evidence[0]
    both = metrics((50, 70), (1, 2))
    del both["differences"]["caption.rouge_l finetune - blind"]
    assert headline(both).claim == "The model uses its image in 1 of 2 tasks; no interval for 1"


def test_few_questions_have_no_interval_and_no_verdict() -> None:
    said = headline(metrics((9.4, 9.4)), {"finetune": {"ingredients": 1}, "blind": {"ingredients": 1}})
    assert "is not known" in said.claim
    assert said.evidence == [
        "ingredients IoU 49.4, shown the image of another dish 40.0; 1 question: too few for an interval or a verdict"
    ]


def test_choice_is_compared_on_the_questions_that_have_an_image() -> None:
    found = {
        "finetune": {"choice": {"accuracy": 0.5, "accuracy_image": 0.4}},
        "blind": {"choice": {"accuracy": 0.3, "accuracy_image": 0.3}},
    }
    (one,) = against_blind(found)
    assert one.metric == "choice.accuracy_image"
    assert one.text == "+10.0"


def test_lower_errors_are_better() -> None:
    found = {"finetune": {"nutrition": {"pmae": 30.0}}, "blind": {"nutrition": {"pmae": 50.0}}}
    assert "20.0 points better" in headline(found).evidence[0]


def test_nothing_is_claimed_without_a_blind_row() -> None:
    assert "was not measured" in headline({"finetune": {"ingredients": {"iou": 0.9}}}).claim


def test_choice_is_stated_over_the_questions_that_both_rows_answered() -> None:
    """Blind is asked only what has an image; 31.4 beside 34.1 must not read as 1.2 points better."""
    metrics = {
        "finetune": {"choice": {"accuracy": 0.314, "accuracy_image": 0.353}},
        "blind": {"choice": {"accuracy": 0.341, "accuracy_image": 0.341}},
        "differences": {
            "choice.accuracy finetune - blind": {"value": 0.012, "low": -0.1, "high": 0.1, "questions": 85}
        },
    }
    line = headline(metrics).evidence[0]
    assert "35.3, shown" in line
    assert "34.1: 1.2 points better, undecided" in line
