import pytest

from components.errors import UserError
from components.params import Gate
from components.tracking.gate import EMPTY, Figures, Rival, decide, unnamed

MEASURED = {"ingredients.iou": 0.75, "nutrition.pmae": 40.0, "nutrition.unparsed": 5.0}


def gate(at_least=None, at_most=None, not_worse=None, better_than_blind=None) -> Gate:
    return Gate(
        at_least=at_least or {},
        at_most=at_most or {},
        not_worse=not_worse or {},
        better_than_blind=better_than_blind or {},
    )


def champion(**figures: float) -> Rival:
    return Rival(1, True, {name.replace("__", "."): value for name, value in figures.items()})


@pytest.mark.parametrize(
    ("settings", "passed"),
    [
        ({"at_least": {"ingredients.iou": 0.75}}, True),
        ({"at_least": {"ingredients.iou": 0.76}}, False),
        ({"at_most": {"nutrition.pmae": 40}}, True),
        ({"at_most": {"nutrition.pmae": 39}}, False),
        ({"at_least": {"ingredients.iou": 0.1}, "at_most": {"nutrition.pmae": 39}}, False),
    ],
)
def test_thresholds_decide_without_a_champion(settings, passed):
    assert decide(Figures(MEASURED), [], gate(**settings)).passed is passed


@pytest.mark.parametrize(
    ("name", "other", "allowed", "passed"),
    [
        ("ingredients.iou", 0.78, 0.03, True),  # lost exactly what is allowed
        ("ingredients.iou", 0.79, 0.03, False),
        ("ingredients.iou", 0.60, 0.0, True),
        ("nutrition.pmae", 38.0, 2.0, True),  # an error: lower is better
        ("nutrition.pmae", 38.0, 1.5, False),
        ("nutrition.pmae", 50.0, 0.0, True),
        ("nutrition.unparsed", 9.0, 0.0, True),  # answers that say nothing: lower is better
        ("nutrition.unparsed", 0.0, 0.0, False),
    ],
)
def test_loss_against_the_champion_decides(name, other, allowed, passed):
    decision = decide(Figures(MEASURED), [Rival(1, True, {name: other})], gate(not_worse={name: allowed}))
    assert decision.passed is passed


def test_best_champion_so_far_is_the_bar():
    rivals = [Rival(2, True, {"ingredients.iou": 0.76}), Rival(1, False, {"ingredients.iou": 0.79})]
    decision = decide(Figures(MEASURED), rivals, gate(not_worse={"ingredients.iou": 0.03}))
    assert not decision.passed
    assert decision.reasons == [
        "failed: ingredients.iou 0.75 may be at most 0.03 worse than that of version 1, champion before: 0.79"
    ]


def test_champion_under_other_conditions_is_no_pass():
    rival = Rival(1, True, None, "it was measured under other conditions: evaluate.max_new_tokens (72 and 6)")
    decision = decide(Figures(MEASURED), [rival], gate(not_worse={"ingredients.iou": 0}))
    assert not decision.passed
    assert decision.reasons[0].startswith("failed: not comparable with the champion, version 1: it was measured")


def test_champion_before_under_other_conditions_is_a_note():
    rivals = [champion(ingredients__iou=0.7), Rival(3, False, None, "its base is gone")]
    decision = decide(Figures(MEASURED), rivals, gate(not_worse={"ingredients.iou": 0}))
    assert decision.passed
    assert decision.reasons[-1] == "note: not compared with version 3, champion before: its base is gone"


def test_champion_without_the_metric_is_no_pass():
    decision = decide(Figures(MEASURED), [champion()], gate(not_worse={"ingredients.iou": 0}))
    assert decision.reasons == ["failed: ingredients.iou was not measured for the champion, version 1"]


@pytest.mark.parametrize("field", ["at_least", "at_most", "not_worse", "better_than_blind"])
def test_metric_that_was_not_measured_is_no_pass(field):
    decision = decide(Figures(MEASURED), [champion(pope__f1=80)], gate(**{field: {"pope.f1": 0.0}}))
    assert not decision.passed
    assert "pope.f1 was not measured, or is not a number" in decision.reasons[0]
    assert "measured: ingredients.iou, nutrition.pmae" in decision.reasons[0]


@pytest.mark.parametrize(
    ("name", "with_own", "with_others", "margin", "passed"),
    [
        ("ingredients.iou", 0.75, 0.65, 0.1, True),
        ("ingredients.iou", 0.75, 0.66, 0.1, False),
        ("ingredients.iou", 0.75, 0.75, 0.0, False),  # level is not better
        ("nutrition.pmae", 40.0, 41.0, 1.0, True),
        ("nutrition.pmae", 40.0, 39.0, 0.0, False),
    ],
)
def test_better_than_blind_compares_the_same_questions(name, with_own, with_others, margin, passed):
    figures = Figures(MEASURED, blind={name: with_others}, sighted={name: with_own})
    assert decide(figures, [], gate(better_than_blind={name: margin})).passed is passed


def test_blind_answers_that_failed_are_no_proof():
    figures = Figures(MEASURED, {"ingredients.iou": 0.1, "ingredients.failed": 3.0}, MEASURED)
    assert not decide(figures, [], gate(better_than_blind={"ingredients.iou": 0.1})).passed
    assert not decide(Figures(MEASURED), [], gate(better_than_blind={"ingredients.iou": 0.1})).passed


def test_empty_gate_judges_nothing():
    decision = decide(Figures(MEASURED), [], gate())
    assert (decision.passed, decision.reasons) == (False, [EMPTY])


def test_refusal_names_what_failed_first():
    decision = decide(Figures(MEASURED), [], gate({"ingredients.iou": 0.7}, {"nutrition.pmae": 39}))
    assert decision.reasons == [
        "failed: nutrition.pmae 40 must be at most 39",
        "passed: ingredients.iou 0.75 must be at least 0.7",
    ]


@pytest.mark.parametrize("field", ["at_least", "at_most", "not_worse", "better_than_blind"])
def test_unknown_metric_is_a_mistake_in_params(field):
    with pytest.raises(UserError, match=rf"gate\.{field} names 'ingredients\.iuo', which is no metric"):
        decide(Figures(MEASURED), [], gate(**{field: {"ingredients.iuo": 0.5}}))


def test_metric_without_a_direction_cannot_be_better():
    with pytest.raises(UserError, match=r"pope_random\.yes_ratio, which has no better direction"):
        decide(Figures({"pope_random.yes_ratio": 50}), [], gate(not_worse={"pope_random.yes_ratio": 1}))


@pytest.mark.parametrize("failed", ["pope_random.failed", "mme_count.failed", "ingredients.failed"])
def test_blind_answers_that_failed_flatter_no_model(failed):
    gate = Gate(at_least={}, at_most={}, not_worse={}, better_than_blind={"pope.f1": 5})
    figures = Figures({"pope.f1": 40.0}, {"pope.f1": 30.0}, {"pope.f1": 40.0})
    assert decide(figures, [], gate).passed
    found = decide(Figures(figures.all, {**figures.blind, failed: 900.0}, figures.sighted), [], gate)
    assert not found.passed
    assert f"({failed.partition('.')[0]}: 900)" in found.reasons[0]


def test_answers_without_a_grade_pass_no_gate():
    gate = Gate(at_least={"mm_vet.score": 20}, at_most={}, not_worse={})
    assert decide(Figures({"mm_vet.score": 31.0, "mm_vet.ungraded": 0.0}, {}, {}), [], gate).passed
    found = decide(Figures({"mm_vet.score": 31.0, "mm_vet.ungraded": 9.0}, {}, {}), [], gate)
    assert not found.passed
    assert "9 answers have no grade" in found.reasons[0]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["ingredients.iou", "nutrition.pmae"])
def test_figure_that_is_no_number_passes_nothing(name, odd):
    fine = 0.5
    for figures, rivals, settings in (
        (Figures({name: odd}), [], {"at_least": {name: -1}}),
        (Figures({name: odd}), [], {"at_most": {name: 1}}),
        (Figures({name: odd}), [Rival(1, True, {name: fine})], {"not_worse": {name: 1}}),
        (Figures({name: fine}), [Rival(1, True, {name: odd})], {"not_worse": {name: 1}}),
        (Figures({name: odd}, {name: fine}, {name: fine}), [], {"better_than_blind": {name: 0}}),
        (Figures({name: fine}, {name: odd}, {name: fine}), [], {"better_than_blind": {name: 0}}),
        (Figures({name: fine}, {name: fine}, {name: odd}), [], {"better_than_blind": {name: 0}}),
    ):
        assert not decide(figures, rivals, gate(**settings)).passed


def test_tasks_that_no_condition_names_are_told():
    figures = {"ingredients.iou": 0.8, "ingredients.f1": 0.9, "recipe.rouge_l": 80.0, "caption.bleu": 10.0}
    assert unnamed(figures, Gate(at_least={"ingredients.f1": 0.5}, at_most={}, not_worse={})) == ["recipe.rouge_l"]
    assert unnamed(figures, Gate(at_least={"ingredients.f1": 0.5}, at_most={}, not_worse={"recipe.bleu": 1.0})) == []
