"""What is built can be parsed; what a model may say instead is parsed without a crash."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data import tasks
from components.data.schema import IMAGE_MARKER

NUTRITION = {"mass_g": 320.0, "calories_kcal": 450, "fat_g": 1.44, "protein_g": 9.96, "carbohydrate_g": 0}


def test_ingredients_answer_has_the_printed_form():
    # paper, appendix
    answer = tasks.ingredients_answer(["chicken wings", "soy sauce", "sugar", "garlic"])
    assert answer == "The ingredients include chicken_wings, soy_sauce, sugar and garlic."


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=6))
def test_ingredients_answer_parses_back_to_its_names(names: list[str]):
    wanted = set(tasks.ingredient_names(names)) - {"and"}
    listed = [name for name in tasks.ingredient_names(names) if name != "and"]
    assert tasks.parse_ingredients(tasks.ingredients_answer(listed)) == wanted


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a, b, and c", {"a", "b", "c"}),
        ("The dish contains Soy Sauce and candy. Enjoy a, b.", {"soy_sauce", "candy"}),
        ("rice", {"rice"}),
        ("", set()),
        ("The ingredients include .", set()),
    ],
)
def test_ingredients_of_other_wordings_are_read(text: str, names: set[str]):
    assert tasks.parse_ingredients(text) == names


def test_recipe_answer_parses_back():
    assert tasks.parse_recipe(tasks.recipe_answer(" Boil. Serve. ")) == "Boil. Serve."


def test_nutrition_answer_parses_back_rounded():
    answer = tasks.nutrition_answer(NUTRITION)
    assert answer == (
        "The dish weighs 320 g and has 450 kcal, with 1.4 g of fat, 10 g of protein and 0 g of carbohydrate."
    )
    found = tasks.parse_nutrition(answer)
    assert found == {"mass_g": 320, "calories_kcal": 450, "fat_g": 1.4, "protein_g": 10, "carbohydrate_g": 0}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The dish weighs 320 g.",
        tasks.nutrition_answer(NUTRITION).replace("450", "-450"),
        tasks.nutrition_answer(NUTRITION).replace("450", "9" * 400),
        tasks.nutrition_answer(NUTRITION).replace("450", "75555555"),
        tasks.nutrition_answer(NUTRITION).replace("450", "NaN"),
    ],
)
def test_nutrition_that_is_incomplete_or_no_number_is_none(text: str):
    assert tasks.parse_nutrition(text) is None


def test_choice_question_is_llavas():
    question = tasks.choice_question("Which?", ["red", "blue"], "Look.")
    assert question == (
        "Context: Look.\nWhich?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."
    )


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("B. blue", "B"),
        ("I think. The answer is B.", "B"),
        ("The answer is A. The answer is B.", None),
        ("blue", None),
        ("BLUE", None),
        ("b", None),
        ("", None),
    ],
)
def test_choice_is_read_by_llavas_rule(text: str, letter: str | None):
    assert tasks.parse_choice(text) == letter


def test_samples_start_with_the_marker_and_carry_gold():
    sample = tasks.ingredients_sample("1", ["Soy sauce", "soy sauce"])
    assert sample.turns[0].text == f"{IMAGE_MARKER}\n{tasks.INGREDIENTS_QUESTION}"
    assert json.loads(sample.gold or "") == ["soy_sauce"]
    assert json.loads(tasks.nutrition_sample("1", NUTRITION).gold or "") == NUTRITION
    assert IMAGE_MARKER not in tasks.choice_sample("1", "q", ["x", "y"], 1, image=False).turns[0].text
