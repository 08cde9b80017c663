"""Reading the chosen letter out of an answer to multiple choice: each toolkit's rule; None where it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Reader = Callable[[str, Mapping[str, str]], str | None]  # answer, {letter: option}

_OPTION_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_VERBOSE = re.compile(r"answer\s+is\s+\**([ABCD])\**", re.IGNORECASE)
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_LAST_WORDS = 5  # a letter further from the end than that is taken for a word of the sentence


def exact(text: str, options: Mapping[str, str]) -> str | None:
    """The letter and nothing else."""
    return text if text in options else None


def leading(text: str, options: Mapping[str, str]) -> str | None:
    """The letter alone, or before "." or ")" or ":" at the start of the answer."""
    found = re.match(r"\s*\(?([A-Z])(?:[.):]|\s*$)", text)
    return found[1] if found and found[1] in options else None


def first_character(text: str, options: Mapping[str, str]) -> str | None:
    """lmms-eval's SEED-Bench: the first character, in any case."""
    letter = text.strip()[:1].upper()
    return letter if letter in options else None


def lmms_eval_scienceqa(text: str, options: Mapping[str, str]) -> str | None:
    """lmms-eval's ScienceQA: the letter in any case, or a capital before "." at the start."""
    answer = text.strip()
    if len(answer) == 1:
        return answer.upper() if answer.upper() in options else None
    return answer[0] if len(answer) >= 2 and answer[1] == "." and answer[0] in options else None


def vlmevalkit(text: str, options: Mapping[str, str]) -> str | None:
    """VLMEvalKit, before it asks a model for help.

    Nothing in a refusal that it knows. Exactly one option's letter stands as a word near the end; nothing where there
    is none but a Z, for "none of them"; else "answer is X"; else exactly one option's text stands in an answer that is
    not more than twice as long as all options together.
    """
    if any(refusal in text for refusal in _REFUSALS):
        return None
    words = text.translate(_OPTION_MARKS).split()
    present = [letter for letter in options if letter in words]
    if len(present) == 1 and words.index(present[0]) > len(words) - _LAST_WORDS:
        return present[0]
    if not present and "Z" in words:
        return None
    verbose = _VERBOSE.search(text)
    if verbose and verbose[1].upper() in options:
        return verbose[1].upper()
    if len(text) > 2 * sum(map(len, options.values())):
        return None
    named = [letter for letter, option in options.items() if option and option.lower() in text.lower()]
    return named[0] if len(named) == 1 else None
