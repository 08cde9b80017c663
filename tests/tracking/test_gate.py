import pytest

from components.errors import UserError
from components.params import Gate
from components.tracking.gate import decide, flat_metrics

MEASURED = {"ingredients.iou": 0.75, "nutrition.pmae": 40.0}


def gate(at_least=None, at_most=None, not_worse=None) -> Gate:
    return Gate(at_least=at_least or {}, at_most=at_most or {}, not_worse=not_worse or {})


@pytest.mark.parametrize(
    ("settings", "passed"),
    [
        ({}, True),
        ({"at_least": {"ingredients.iou": 0.75}}, True),
        ({"at_least": {"ingredients.iou": 0.76}}, False),
        ({"at_most": {"nutrition.pmae": 40}}, True),
        ({"at_most": {"nutrition.pmae": 39}}, False),
        ({"at_least": {"ingredients.iou": 0.1}, "at_most": {"nutrition.pmae": 39}}, False),
    ],
)
def test_thresholds_decide_without_a_champion(settings, passed):
    assert decide(MEASURED, None, False, gate(**settings)).passed is passed


@pytest.mark.parametrize(
    ("name", "champion", "allowed", "passed"),
    [
        ("ingredients.iou", 0.78, 0.03, True),  # lost exactly what is allowed
        ("ingredients.iou", 0.79, 0.03, False),
        ("ingredients.iou", 0.60, 0.0, True),
        ("nutrition.pmae", 38.0, 2.0, True),  # an error: lower is better
        ("nutrition.pmae", 38.0, 1.5, False),
        ("nutrition.pmae", 50.0, 0.0, True),
    ],
)
def test_loss_against_the_champion_decides_on_the_same_data(name, champion, allowed, passed):
    decision = decide(MEASURED, {name: champion}, True, gate(not_worse={name: allowed}))
    assert decision.passed is passed


def test_champion_on_other_data_is_not_compared():
    decision = decide(MEASURED, {"ingredients.iou": 0.99}, False, gate(not_worse={"ingredients.iou": 0}))
    assert decision.passed
    assert "other data" in decision.reasons[0]


def test_champion_without_the_metric_does_not_refuse():
    assert decide(MEASURED, {}, True, gate(not_worse={"ingredients.iou": 0})).passed


def test_refusal_tells_what_failed_first():
    decision = decide(MEASURED, None, True, gate({"ingredients.iou": 0.7}, {"nutrition.pmae": 39}))
    assert decision.reasons == [
        "failed: nutrition.pmae 40 must be at most 39",
        "passed: ingredients.iou 0.75 must be at least 0.7",
    ]


@pytest.mark.parametrize("field", ["at_least", "at_most", "not_worse"])
def test_unknown_metric_is_refused_with_the_known_ones(field):
    with pytest.raises(UserError, match=rf"gate\.{field} names 'ingredients\.iuo'.*ingredients\.iou, nutrition\.pmae"):
        decide(MEASURED, None, True, gate(**{field: {"ingredients.iuo": 0.5}}))


def test_flat_metrics_leave_out_what_is_no_number():
    row = {"ingredients": {"iou": 0.5, "f1": None}, "recipe": {"bleu": float("nan"), "rouge_l": 3}}
    assert flat_metrics(row) == {"ingredients.iou": 0.5, "recipe.rouge_l": 3.0}
