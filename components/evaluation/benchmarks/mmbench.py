"""MMBench: multiple choice, each question asked once for every rotation of its options (Liu et al. 2023).

Rule: circular accuracy, as its server scores: a question (index modulo a million) counts only when every rotation is
right. The letter is read by LLaVA's convention (`llava`): alone, or before a mark at the start; `exact` takes the
letter and nothing else; `vlmevalkit` also finds it in a sentence, or by the option's own words. The server asks a
model where no letter is found; here such an answer is wrong. `single`: accuracy of the first rotation alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from components.data.tasks import CHOICE_PROMPT
from components.errors import UserError
from components.evaluation.offline.files import is_table, table
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.joining import id_asked as key_asked
from components.evaluation.offline.joining import id_given as key_given
from components.evaluation.offline.questions import Files
from components.evaluation.question import Question, Scores
from components.evaluation.rules import letters

__all__ = ["key_asked", "key_given"]

NAME = "mmbench"
TASKS = ("mmbench",)
RULES = {"llava": letters.leading, "exact": letters.exact, "vlmevalkit": letters.vlmevalkit}
MISSING_IS_WRONG = True  # an empty prediction is wrong to the server
WHOLE_GROUPS = True
SHARES = ()

OPTIONS = "ABCDEFGH"
_ROTATION = 1_000_000
_INDEX = 64  # characters; a longer text is an image
_NONE = ("", "nan", "none")  # how tables write that there is no such option


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations` (or `questions`): the table with index, question, options and answer; or the answers' own table."""
    named = [files.annotations, files.questions, *files.answers[:1]]
    found = False
    for path in named:
        if path is None or (path in files.answers and not is_table(path, findings)):
            continue
        rows = table(path, findings)
        found = True
        held = {row.get("index", ""): row.get("image", "") for row in rows}
        asked = [
            _question(row, held)
            for row in rows
            if row.get("answer") in tuple(OPTIONS) and row.get("index", "").isdigit()
        ]
        if asked:
            if len(asked) < len(rows):
                findings.say(f"{path}: {len(rows) - len(asked)} rows have no index or no answer; left out")
            return asked
    if not found:
        raise UserError(
            "mmbench needs --annotations: the table with index, question, options and answer (mmbench_dev_*.tsv)"
        )
    raise UserError(
        "no table of mmbench given here has the columns index and answer; the test split has no answers, use dev"
    )


def _question(row: Mapping[str, str], held: Mapping[str, str]) -> Question:
    options = _options(row)
    lines = [f"{letter}. {option}" for letter, option in options.items()]
    hint = row.get("hint", "")
    text = "\n".join([*([hint] if hint.lower() not in _NONE else []), row.get("question", ""), *lines, CHOICE_PROMPT])
    image = _image(row.get("image", ""), held)
    return Question(
        row["index"],
        NAME,
        "mmbench",
        text,
        (row["answer"],),
        json.dumps({"answer": row["answer"], "options": options, "category": row.get("category", "")}),
        image=image,
        image_hash=hashlib.sha256(image).hexdigest() if image else None,
        group=str(int(row["index"]) % _ROTATION),
    )


def _options(row: Mapping[str, str]) -> dict[str, str]:
    """Up to the first that is empty, as LLaVA reads them."""
    options = {}
    for letter in OPTIONS:
        if row.get(letter, "").lower() in _NONE:
            break
        options[letter] = row[letter]
    return options


def _image(text: str, held: Mapping[str, str]) -> bytes | None:
    """The image, which the table holds as base64; a short text is the index of the row that `held` has it of."""
    text = text if len(text) > _INDEX else held.get(text, "")
    try:
        return base64.b64decode(text, validate=True) if len(text) > _INDEX else None
    except binascii.Error:
        return None


def score(asked: Sequence[Question], answers: Sequence[str | None], rule: str = "llava") -> Scores:
    each, categories = [], {}
    groups: dict[str, list[float]] = defaultdict(list)
    first: list[float] = []
    for question, answer in zip(asked, answers, strict=True):
        gold = json.loads(question.gold or "{}")
        options = gold["options"] or dict.fromkeys("ABCD", "")
        right = float(answer is not None and RULES[rule](answer, options) == gold["answer"])
        each.append(right)
        groups[question.group].append(right)
        categories.setdefault(question.group, gold["category"])
        if question.id == question.group:
            first.append(right)
    whole = {group: float(all(rights)) for group, rights in groups.items()}
    by_category: dict[str, list[float]] = defaultdict(list)
    for group, right in whole.items():
        if categories[group]:
            by_category[categories[group]].append(right)
    metrics = {NAME: {"circular": _percent(list(whole.values())), "single": _percent(first)}}
    metrics |= {f"mmbench_{name}": {"circular": _percent(rights)} for name, rights in sorted(by_category.items())}
    return Scores(metrics, each)


def _percent(rights: Sequence[float]) -> float:
    return 100 * sum(rights) / len(rights) if rights else 0.0
