"""Reading yes or no out of an answer: each toolkit's rule in its own words' order. Anything else is OTHER."""

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
    """VLMEvalKit, before it asks a model for help: one of the words yes and no stands in the answer, the other not."""
    words = set(re.findall(r"[^\W_]+(?:['.][^\W_]+)*", text.lower()))
    found = words & {YES, NO}
    return found.pop() if len(found) == 1 else OTHER
