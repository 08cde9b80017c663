import numpy as np
import pytest

from components.evaluation.metrics import choice, ingredients, nutrition, text


def test_overlap_of_sets() -> None:
    guess, true = {"rice", "egg", "salt"}, {"rice", "egg", "oil", "leek"}
    assert ingredients.iou(guess, true) == 2 / 5
    assert ingredients.f1(guess, true) == 4 / 7
    assert ingredients.iou(guess, true) == ingredients.iou(true, guess)
    for metric in (ingredients.iou, ingredients.f1):
        assert metric(set(), set()) == 1
        assert metric(set(), true) == 0
        assert metric(true, true) == 1


def test_mean_f1_lies_below_the_f1_of_the_mean_iou() -> None:
    """Why both are averaged over samples: the paper's printed F1 is below 2 IoU / (1 + IoU)."""
    pairs = [({"a"}, {"a"}), ({"a"}, {"b"}), ({"a", "b"}, {"a", "c"})]
    mean_iou = np.mean([ingredients.iou(*pair) for pair in pairs])
    mean_f1 = np.mean([ingredients.f1(*pair) for pair in pairs])
    assert mean_f1 < 2 * mean_iou / (1 + mean_iou)


def test_rouge_l_is_the_f_of_the_longest_common_subsequence() -> None:
    # common: "the cat sat" of 4 and 5 words: P 3/4, R 3/5
    assert text.rouge_l("the cat sat down", ["the black cat has sat"]) == pytest.approx(100 * 2 * 0.45 / 1.35)
    assert text.rouge_l("", ["anything"]) == 0
    assert text.rouge_l("Cut. The ROLLS!", ["cut the rolls"]) == 100  # no stemming, but case and marks fall away
    assert text.rouge_l("rolling", ["rolled"]) == 0


def test_rouge_l_takes_the_best_reference() -> None:
    references = ["a dog runs", "two men cook rice"]
    assert text.rouge_l("two men cook", references) == max(text.rouge_l("two men cook", [r]) for r in references)


def test_bleu_is_the_corpus_score() -> None:
    from sacrebleu import corpus_bleu

    answers = ["the cat sat on the mat .", "two men are cooking rice in a pan"]
    references = [["the cat sat on a mat ."], ["two men are cooking some rice in a pan"]]
    expected = corpus_bleu(answers, [[each[0] for each in references]]).score
    assert text.bleu(answers, references) == pytest.approx(expected)
    assert text.bleu([r[0] for r in references], references) == pytest.approx(100)
    alone = [text.bleu([answer], [reference]) for answer, reference in zip(answers, references, strict=True)]
    assert text.bleu(answers, references) != pytest.approx(np.mean(alone))


def test_bleu_takes_more_references_for_some_than_for_others() -> None:
    answers = ["a man rides a red bike", "two dogs run in the snow"]
    one = text.bleu(answers, [["somebody rides something red"], ["two dogs run in the deep snow"]])
    more = text.bleu(
        answers, [["somebody rides something red", "a man rides a red bike"], ["two dogs run in the deep snow"]]
    )
    assert more > one


def dish(mass: float, *others: float) -> dict[str, float]:
    fields = ("mass_g", "calories_kcal", "fat_g", "protein_g", "carbohydrate_g")
    return dict(zip(fields, (mass, *(others or (10, 10, 10, 10))), strict=True))


def test_pmae_is_error_over_mean_of_the_truth() -> None:
    sums = nutrition.contributions([dish(110), dish(250)], [dish(100), dish(300)]).mean(axis=0)
    assert nutrition.field_pmae(sums).tolist() == pytest.approx([100 * 30 / 200, 0, 0, 0, 0])
    assert nutrition.pmae(sums) == pytest.approx(3)


def test_unreadable_answer_counts_as_zero() -> None:
    true = [dish(100), dish(300)]
    assert nutrition.pmae(nutrition.contributions([None, None], true).mean(axis=0)) == pytest.approx(100)
    half = nutrition.contributions([None, dish(300)], true).mean(axis=0)
    assert nutrition.field_pmae(half)[0] == pytest.approx(100 * 50 / 200)


def test_field_that_is_always_zero_is_left_out() -> None:
    true = [dish(100, 50, 0, 5, 5)]
    sums = nutrition.contributions([dish(80, 50, 3, 5, 5)], true).mean(axis=0)
    assert np.isnan(nutrition.field_pmae(sums)[2])
    assert nutrition.pmae(sums) == pytest.approx(20 / 4)


def test_mean_predictor_is_the_mean_of_each_field() -> None:
    assert nutrition.mean_nutrition([dish(100), dish(300)]) == dish(200)


def test_failed_choice_is_wrong_and_stands_in_the_table() -> None:
    assert choice.accuracy(["A", None, "B", "C"], ["A", "B", "B", "D"]) == 0.5
    assert choice.confusion(["A", None], ["B", "C"]) == [
        {"actual": "B", "predicted": "A"},
        {"actual": "C", "predicted": "none"},
    ]
