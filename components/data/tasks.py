"""Question and answer forms of every task, built and parsed in this one place.

Ingredient and recipe forms are the paper's (appendix); the nutrition form is ours. Choice and caption
prompts are LLaVA's. A sample's human text starts with IMAGE_MARKER where an image belongs to it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import dropwhile, takewhile

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

_INGREDIENTS_START = "The ingredients include "
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


# --- ingredients ---


def ingredient_name(name: str) -> str:
    """One word, as the paper prints them: `Chicken wings` -> `chicken_wings`."""
    return re.sub(r"[\s,.;:]+", "_", name).strip("_").lower()


def ingredient_names(names: Sequence[str]) -> list[str]:
    """Names in one form, each once, in the order given; what is empty falls out."""
    return list(dict.fromkeys(filter(None, map(ingredient_name, names))))


def ingredients_answer(ingredients: Sequence[str]) -> str:
    """`The ingredients include chicken_wings, soy_sauce, sugar and garlic.` Empty where there are none."""
    names = ingredient_names(ingredients)
    if not names:
        return ""
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{_INGREDIENTS_START}{listed}."


def parse_ingredients(text: str) -> set[str]:
    """The names in an answer; the opening words may be missing.

    Reads a list, a line for each name, where the answer begins with one or with its heading; else the first sentence.
    """
    lines = _listed_lines(text)
    if lines is not None:
        return {name for line in lines for name in _names(line)}
    return set(_names(_first_sentence(text)))


_OPENING = re.compile(r"^.*?\b(?:ingredients\s+(?:include|are)|includes?|contains?)\b:?", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?:\s|$)")
_LONGEST_NAME = 4  # words between semicolons, or in a line of a list; what is longer is a sentence
_BULLET = re.compile(r"\s*(?:[-*+\u2022\u2013]|\d{1,2}[.)])\s+")


def _first_sentence(text: str) -> str:
    """Without the words that open it."""
    return _OPENING.sub("", re.split(r"\.(?:\s|$)|\n", text.strip(), maxsplit=1)[0])


def _names(listed: str) -> list[str]:
    """Names parted by commas and `and`; by semicolons where there is no comma and each part is short enough."""
    parts = listed.split(";")
    if "," not in listed and all(len(part.split()) <= _LONGEST_NAME for part in parts):
        listed = ", ".join(parts)
    return ingredient_names(re.split(r",\s*(?:and\s+)?|\s+and\s+|^\s*and\s+", listed))


def _is_heading(line: str) -> bool:
    """A line that ends with a colon and holds no answer: no whole sentence, nothing after opening words."""
    title = line.strip("* ")
    return title.endswith(":") and not (_BULLET.match(line) or _SENTENCE_END.search(title) or _opens_an_answer(title))


def _opens_an_answer(line: str) -> bool:
    """The opening words and names after them; in brackets or behind a colon they belong to one name."""
    opening = _OPENING.match(line)
    if not opening or re.search(r"[(:]", opening[0][:-1]):
        return False
    rest = line[opening.end() :].strip("*_:. ").lower()
    return bool(rest) and not re.fullmatch(r"as follows|(?:all (?:of )?)?(?:the following|these)(?: \w+)?", rest)


def _listed_lines(text: str) -> list[str] | None:
    """The items of a list, without marks and remarks; None where the text is none.

    A list has a mark before each item (-, *, 1.) or stands under a line that ends with a colon, and ends with its kind.
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    items = list(dropwhile(_is_heading, lines))
    headed = len(items) < len(lines)
    if not items or not (headed or _BULLET.match(items[0])):
        return None
    bare = _BULLET.sub("", items[0], count=1)
    if _opens_an_answer(bare):  # - The ingredients include rice and beans.
        return [_first_sentence(bare)]
    if not _BULLET.match(items[0]):
        return _unmarked(items)
    if not headed and len(items) == 1:  # 1. rice 2. beans
        return re.split(r"(?:^|[,;]?\s+(?:and\s+)?)\d{1,2}[.)]\s+", re.sub(r"^\s*[-*+\u2022\u2013]\s+", "", items[0]))
    return [
        _BULLET.sub("", item, count=1).split(":")[0].strip("*_` ")
        for item in takewhile(lambda line: bool(_BULLET.match(line)), items)
    ]


def _unmarked(lines: Sequence[str]) -> list[str]:
    """Lines of names up to the first that ends a sentence, and that one unless it is long."""
    items = []
    for line in takewhile(lambda line: not (_BULLET.match(line) or _is_heading(line)), lines):
        item = _first_sentence(line)
        ends = bool(_SENTENCE_END.search(line))
        if not ends or not items or all(len(part.split()) <= _LONGEST_NAME for part in item.split(",")):
            items.append(item)
        if ends:
            break
    return items


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
# A comma groups thousands, and stands before three digits; 12,5 is not read, for it may be 12.5.
_NUMBER = r"(?<![\d.,-])((?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?)"
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
