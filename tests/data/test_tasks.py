"""Answers about dishes, as our models give them and as others do."""

import pytest

from components.data.tasks import dish_sample, ingredients_answer, parse_ingredients, parse_nutrition

SAID = "The dish weighs {} g and has 120 kcal, with 3.5 g of fat, 2 g of protein and 1 g of carbohydrate."


@pytest.mark.parametrize("names", [["rice"], ["rice", "bay_leaf"], ["7-up", "rice", "12_eggs"]])
def test_our_own_form_is_read_whole(names: list[str]) -> None:
    for answer in (ingredients_answer(names), ingredients_answer(names).removeprefix("The ingredients include ")):
        assert parse_ingredients(answer) == set(names)
        assert parse_ingredients(f"{answer} It is good.\n- salt") == set(names)


@pytest.mark.parametrize(
    "text",
    [
        "1. rice\n2. bay leaf",
        "1) rice\n\n2) bay leaf\n",
        "- rice\n- bay leaf",
        "* **rice**\n* **bay leaf**: for its taste",
        "\u2022 rice\n\u2022 bay leaf",
        "1. rice 2. bay leaf",
        "1. rice, and 2. bay leaf",
        "Ingredients:\n- rice\n- bay leaf",
        "**Ingredients:**\n\n1. rice\n2. bay leaf\n\nInstructions:\n1. Boil.",
        "Sure, here they are:\n\nIngredients:\n- rice\n- bay leaf\n\nEnjoy!",
        "Ingredients:\nrice\nbay leaf",
        "The ingredients are:\nrice, bay leaf.",
        "rice; bay leaf",
    ],
)
def test_lists_are_read_line_by_line(text: str) -> None:
    assert parse_ingredients(text) == {"rice", "bay_leaf"}


@pytest.mark.parametrize(
    "text",
    [
        "The ingredients include rice and bay_leaf. The instructions are as follows:\n1. Boil.\n2. Serve.",
        "The ingredients include rice and bay_leaf. To cook it:\nBoil, then serve.",
        "The ingredients include rice and bay leaf:\n1. Boil.",
        "- The ingredients include rice and bay leaf.",
        "- The ingredients include rice and bay leaf.\n- The dish is served hot.",
        "1. The ingredients include rice and bay leaf.",
        "Rice and bay leaf. Note:\nmay contain nuts",
        "Ingredients:\nThe ingredients include rice and bay leaf.\nThe dish is served hot, with sauce.",
        "Ingredients:\nrice, bay leaf.\nEnjoy, my friend",
        "Ingredients:\nrice\nbay leaf.\nEnjoy",
        "Ingredients:\nrice\nbay leaf\nThe dish is served very hot.\nEnjoy",
        "The ingredients include the following:\n- rice\n- bay leaf",
    ],
)
def test_a_sentence_that_holds_the_answer_is_no_heading(text: str) -> None:
    assert parse_ingredients(text) == {"rice", "bay_leaf"}


def test_a_remark_of_an_item_does_not_open_an_answer() -> None:
    assert parse_ingredients("- rice: contains starch\n- bay leaf") == {"rice", "bay_leaf"}


def test_the_gold_of_a_dish_is_all_of_its_answer() -> None:
    answer = "The ingredients include rice and bay leaf. The recipe is:\n1. Boil.\n2. Serve."
    assert dish_sample("1", "Which ingredients are in it?", answer).gold == '["bay_leaf", "rice"]'


@pytest.mark.parametrize(
    "text",
    [
        "Ingredients: rice, bay leaf.",
        "**Ingredients:** rice and bay leaf",
        "The ingredients in this dish are rice and bay leaf.",
        "The ingredients present in this dish are: rice, bay leaf",
        "The visible ingredients appear to be rice and bay leaf.",
        "This dish has rice and bay leaf.",
        "The image shows rice and bay leaf.",
        "## Ingredients\n\n- rice\n- bay leaf",
        "rice\nbay leaf",
        "['rice', 'bay leaf']",
        '["rice", "bay leaf"]',
        "rice\u3001bay leaf",
        "rice\uff0cbay leaf",
    ],
)
def test_words_and_marks_around_the_names_are_no_part_of_the_first(text: str) -> None:
    assert parse_ingredients(text) == {"rice", "bay_leaf"}


@pytest.mark.parametrize("text", ["", ".", "The ingredients include:"])
def test_an_empty_list_holds_nothing(text: str) -> None:
    assert not parse_ingredients(text)


def test_a_semicolon_between_sentences_parts_no_names() -> None:
    text = "It is fried food with light hands; lay and cheese"
    assert parse_ingredients(text) == {"it_is_fried_food_with_light_hands_lay", "cheese"}


@pytest.mark.parametrize(
    ("mass", "read"),
    [("12.5", 12.5), ("125", 125), ("1,250", 1250), ("1,250.5", 1250.5), ("0.5", 0.5), ("9000", 9000)]
    + [(text, None) for text in ("12,5", "12,50", "0,125", "1,2345", "1234,567", "12,500,00")],
)
def test_a_comma_groups_thousands_and_nothing_else(mass: str, read: float | None) -> None:
    found = parse_nutrition(SAID.format(mass))
    assert (found and found["mass_g"]) == read


@pytest.mark.parametrize(
    "energy",
    [
        "150-250",
        "150\u2013250",
        "150 \u2013 250",
        "150- 250",
        "150 to 250",
        "150 and 250",
        "150 or 250",
        "1 250",
        "\u2212250",
    ],
)
def test_a_range_is_not_its_last_number(energy: str) -> None:
    assert parse_nutrition(SAID.format(100).replace("120", energy)) is None
