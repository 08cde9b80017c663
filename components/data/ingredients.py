"""The names of a dish's ingredients as one answer, and read out of answers in our form and in others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import dropwhile, takewhile

_INGREDIENTS_START = "The ingredients include "


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

    Reads a list, a line for each name or in brackets, where the answer is or begins with one or with its heading; else
    the first sentence.
    """
    if _BRACKETED.fullmatch(text.strip()):
        return set(ingredient_names([single or double for single, double in _QUOTED.findall(text)]))
    lines = _listed_lines(text)
    if lines is not None:
        return {name for line in lines for name in _names(line)}
    return set(_names(_first_sentence(text)))


_OPENING = re.compile(
    r"^.*?\b(?:ingredients\s+(?:\w+\s+){0,5}?(?:include|are|(?:appear|seem)\s+to\s+be)|includes?|contains?)\b:?"
    r"|^\W*(?:the|this)\s+(?:dish|meal|plate|image|photo|picture)\s+(?:has|shows|features|consists\s+of)\b:?",
    re.IGNORECASE,
)
_TITLE = re.compile(r"^\W*ingredients?\W*:\W*", re.IGNORECASE)  # before names in the same line
_BRACKETED = re.compile(r"\[\s*(?:'[^']*'|\"[^\"]*\")(?:\s*,\s*(?:'[^']*'|\"[^\"]*\"))*\s*\]")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_COMMAS = str.maketrans(dict.fromkeys("\u3001\uff0c", ","))  # of Chinese and Japanese
_SENTENCE_END = re.compile(r"\.(?:\s|$)")
_LONGEST_NAME = 4  # words between semicolons, or in a line of a list; what is longer is a sentence
_BULLET = re.compile(r"\s*(?:[-*+\u2022\u2013]|\d{1,2}[.)])\s+")


def _first_sentence(text: str) -> str:
    """Without the words that open it."""
    return _OPENING.sub("", _TITLE.sub("", re.split(r"\.(?:\s|$)|\n", text.strip(), maxsplit=1)[0]))


def _names(listed: str) -> list[str]:
    """Names parted by commas and `and`; by semicolons where there is no comma and each part is short enough."""
    listed = listed.translate(_COMMAS)
    parts = listed.split(";")
    if "," not in listed and all(len(part.split()) <= _LONGEST_NAME for part in parts):
        listed = ", ".join(parts)
    return ingredient_names(re.split(r",\s*(?:and\s+)?|\s+and\s+|^\s*and\s+", listed))


def _is_heading(line: str) -> bool:
    """A line that ends with a colon and holds no answer: no whole sentence, nothing after opening words. Or a title."""
    title = line.strip("* ")
    if title.startswith("#"):
        return not _opens_an_answer(title)
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

    A list has a mark before each item (-, *, 1.) or stands under a line that ends with a colon, and ends with its kind;
    or it is all of the text, in lines of a name each.
    """
    lines = [line for line in text.strip().splitlines() if line.strip()]
    items = list(dropwhile(_is_heading, lines))
    headed = len(items) < len(lines)
    if not headed and len(items) > 1 and all(map(_is_a_name, items)):
        return items
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


def _is_a_name(line: str) -> bool:
    return len(line.split()) <= _LONGEST_NAME and not (_BULLET.match(line) or re.search(r"[,;:.!?\u3001\uff0c]", line))


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
