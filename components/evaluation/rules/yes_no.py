"""Reading yes or no out of an answer: each toolkit's rule. Anything else is OTHER."""

from __future__ import annotations

import re
from collections.abc import Callable

YES, NO, OTHER = "yes", "no", "other"

Reader = Callable[[str], str]


def llava(text: str) -> str:
    """LLaVA's POPE rule: before the first ".", commas taken out, "no" if a word is No, not or no; otherwise yes.

    So silence is yes.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return NO if {"No", "not", "no"} & set(words) else YES


def first_four(text: str) -> str:
    """MME's own rule: lower case; yes, or else no, within the first four characters."""
    start = text.lower()[:4]
    return YES if YES in start else NO if NO in start else OTHER


def lmms_eval_mme(text: str) -> str:
    """lmms-eval's MME: blanks around and full stops are taken out first, and a lone y or n counts."""
    plain = text.lower().strip().replace(".", "")
    return {"y": YES, "n": NO}.get(plain) or first_four(plain)


def lmms_eval_pope(text: str) -> str:
    """lmms-eval's POPE: the whole answer is yes or no, in any case."""
    plain = text.lower().strip()
    return plain if plain in (YES, NO) else OTHER


def vlmevalkit(text: str) -> str:
    """VLMEvalKit, before it asks a model for help: one of the words yes and no stands in the answer, the other not.

    Words are what blanks part once its list of marks is taken out; colons and apostrophes are not in that list.
    """
    found = {YES, NO} & set(_without_marks(text.lower()).split())
    return found.pop() if len(found) == 1 else OTHER


_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_MOST_STOPS = 32  # it hands re.UNICODE, which is 32, to the parameter that counts


def _without_marks(text: str) -> str:
    """VLMEvalKit's process_punctuation: a mark with a blank beside it anywhere is dropped everywhere, others become
    blanks (all are dropped where a comma stands between digits); then full stops that no digit follows.
    """
    grouped = re.search(r"\d,\d", text) is not None
    out = text
    for mark in _MARKS:
        beside_a_blank = f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if beside_a_blank or grouped else " ")
    return re.sub(r"\.(?!\d)", "", out, count=_MOST_STOPS)


def names_yes(text: str) -> bool:
    """The word yes stands in the text, in any case."""
    return YES in re.findall(r"\w+", text.lower())
