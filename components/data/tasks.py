"""Question and answer forms of every task, built and parsed in this one place (ingredients: beside it).

Ingredient and recipe forms are the paper's (appendix); the nutrition form is ours. Choice and caption
prompts are LLaVA's. A sample's human text starts with IMAGE_MARKER where an image belongs to it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

from components.data.ingredients import ingredient_names, ingredients_answer, parse_ingredients
from components.data.schema import IMAGE_MARKER, Sample, Turn

TASKS = ("ingredients", "recipe", "nutrition", "choice", "caption", "chat")

INGREDIENTS_QUESTION = "Can you list the ingredients present in this dish?"
RECIPE_QUESTION = "How to make this dish?"
NUTRITION_QUESTION = "What are the mass and the nutrition of this dish?"
CAPTION_QUESTION = "Provide a one-sentence caption for the provided image."
# LLaVA's requests for a brief description, as they stand in its captions for stage 1.
CAPTION_QUESTIONS = frozenset(
    {
        CAPTION_QUESTION,
        "Describe the image concisely.",
        "Provide a brief description of the given image.",
        "Offer a succinct explanation of the picture presented.",
        "Summarize the visual content of the image.",
        "Give a short and clear explanation of the subsequent image.",
        "Share a concise interpretation of the image provided.",
        "Present a compact description of the photo's key features.",
        "Relay a brief, clear account of the picture shown.",
        "Render a clear and concise summary of the photo.",
        "Write a terse but informative summary of the picture.",
        "Create a compact narrative representing the image presented.",
        "Give a brief description of the image.",
        "What is this?",
        "What is in the photo?",
    }
)
CHOICE_PROMPT = "Answer with the option's letter from the given choices directly."
SHORT_PROMPT = "Answer the question using a single word or phrase."

NUTRITION_FIELDS = ("mass_g", "calories_kcal", "fat_g", "protein_g", "carbohydrate_g")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_RECIPE_START = "The instructions are as follows: "


# --- samples: what the sources build ---


def ingredients_sample(id: str, ingredients: Sequence[str]) -> Sample:
    names = ingredient_names(ingredients)
    return _sample(id, "ingredients", INGREDIENTS_QUESTION, ingredients_answer(names), json.dumps(names))


def recipe_sample(id: str, instructions: str) -> Sample:
    return _sample(id, "recipe", RECIPE_QUESTION, recipe_answer(instructions))


def nutrition_sample(id: str, nutrition: Mapping[str, float]) -> Sample:
    gold = json.dumps({field: nutrition[field] for field in NUTRITION_FIELDS})
    return _sample(id, "nutrition", NUTRITION_QUESTION, nutrition_answer(nutrition), gold)


def dish_task(question: str, answer: str) -> str:
    """ingredients, recipe or nutrition by the words of a question about a dish; chat for others, and for what cannot be
    scored as its task (an answer without a name, or without all five values).
    """
    words = set(re.findall(r"[a-z]+", question.lower()))
    if words & {"nutrition", "nutritional", "nutrients", "calories", "mass"}:
        return "nutrition" if parse_nutrition(answer) else "chat"
    if words & {"ingredient", "ingredients"}:
        return "ingredients" if parse_ingredients(answer) else "chat"
    about_cooking = words & {"recipe", "instructions", "cook", "make", "prepare"}
    return "recipe" if about_cooking and parse_recipe(answer) else "chat"


def dish_sample(id: str, question: str, answer: str, image: bool = True) -> Sample:
    """A question and answer about a dish in words of their own, which are kept; the gold is what the answer holds."""
    task = dish_task(question, answer)
    return _sample(id, task, question, answer, dish_gold(task, answer), image)


def dish_gold(task: str, answer: str) -> str | None:
    """What `dish_task` found in the true answer, as JSON."""
    if task == "ingredients":
        return json.dumps(sorted(parse_ingredients(answer)))
    return json.dumps(parse_nutrition(answer)) if task == "nutrition" else None


def choice_sample(
    id: str, question: str, choices: Sequence[str], answer: int, hint: str = "", image: bool = True
) -> Sample:
    letter = LETTERS[answer]
    return _sample(id, "choice", choice_question(question, choices, hint), letter, json.dumps(letter), image)


def caption_sample(id: str, caption: str, question: str = CAPTION_QUESTION) -> Sample:
    return _sample(id, "caption", question, caption)


def _sample(id: str, task: str, question: str, answer: str, gold: str | None = None, image: bool = True) -> Sample:
    human = f"{IMAGE_MARKER}\n{question}" if image else question
    return Sample(id, task, [Turn("human", human), Turn("assistant", answer)], gold)


# --- recipe ---


def recipe_answer(instructions: str) -> str:
    text = instructions.strip()
    return f"{_RECIPE_START}{text}" if text else ""


def parse_recipe(text: str) -> str:
    return text.strip().removeprefix(_RECIPE_START.strip()).strip()


# --- nutrition ---


def nutrition_answer(nutrition: Mapping[str, float]) -> str:
    """Values under NUTRITION_FIELDS: grams and kilocalories; from 10 on whole numbers, below one decimal."""
    mass, calories, fat, protein, carbohydrate = (_number(nutrition[field]) for field in NUTRITION_FIELDS)
    return (
        f"The dish weighs {mass} g and has {calories} kcal, "
        f"with {fat} g of fat, {protein} g of protein and {carbohydrate} g of carbohydrate."
    )


def parse_nutrition(text: str) -> dict[str, float] | None:
    """All five values of an answer, in any order, or None where one is missing or larger than any dish's."""
    values = {}
    for field, pattern in _NUTRITION_PATTERNS.items():
        found = pattern.search(text)
        value = float(found[1].replace(",", "")) if found else math.inf
        if value > LARGEST_ESTIMATE:
            return None
        values[field] = value
    return values


LARGEST_ESTIMATE = 10_000.0  # g or kcal of a dish; a single "75555555 g of protein" would be the whole mean
# A comma groups thousands, and stands before three digits; 12,5 is not read, for it may be 12.5. Neither is a range
# (150-250, 150 to 250, between 150 and 250) nor 1 200: their last number is not what is meant.
_DASHES = "\u2012\u2013\u2014\u2212-"
_NO_RANGE = rf"(?<!\d )(?<!\d[{_DASHES}] )(?<!\d [{_DASHES}] )(?<!\d to )(?<!\d and )(?<!\d or )"
_NUMBER = rf"{_NO_RANGE}(?<![\d.,{_DASHES}])((?:[1-9]\d{{0,2}}(?:,\d{{3}})+|\d+)(?:\.\d+)?)"
_NUTRITION_PATTERNS = {
    "mass_g": re.compile(rf"weighs (?:about )?{_NUMBER} ?g\b", re.IGNORECASE),
    "calories_kcal": re.compile(rf"{_NUMBER} ?(?:kcal|calories)\b", re.IGNORECASE),
    "fat_g": re.compile(rf"{_NUMBER} ?g of fat\b", re.IGNORECASE),
    "protein_g": re.compile(rf"{_NUMBER} ?g of protein\b", re.IGNORECASE),
    "carbohydrate_g": re.compile(rf"{_NUMBER} ?g of carbohydrates?\b", re.IGNORECASE),
}


def _number(value: float) -> str:
    return f"{value:.0f}" if round(value, 1) >= 10 else f"{value:.1f}".removesuffix(".0")


# --- choice ---


def choice_question(question: str, choices: Sequence[str], hint: str = "") -> str:
    """Hint, question, one line for each option, LLaVA's prompt for a letter."""
    context = [f"Context: {hint.strip()}"] if hint.strip() else []
    options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([*context, question, *options, CHOICE_PROMPT])


def parse_choice(text: str) -> str | None:
    """LLaVA's rule for ScienceQA: a letter alone; a letter before `. `; one match of `The answer is X.`; else None.

    The last full stop is any character, as in LLaVA's pattern.
    """
    answer = text.strip()
    if len(answer) == 1 and answer in LETTERS:
        return answer
    if len(answer) >= 3 and answer[0] in LETTERS and answer[1:3] == ". ":
        return answer[0]
    found = re.findall(r"The answer is ([A-Z]).", answer)
    return found[0] if len(found) == 1 else None
