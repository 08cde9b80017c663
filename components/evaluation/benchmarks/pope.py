"""POPE: is an object in the image? Adversarial, popular and random objects, half of them there (Li et al. 2023).

Rule: LLaVA's (`llava`): text before the first ".", commas removed; "no" if a word is No, not or no; otherwise yes.
F1 of "yes" for each category and their mean. `lmms_eval` takes only yes or no, alone, and leaves other answers out of
F1; `vlmevalkit` takes the one of both words that stands in the answer, other answers are not yes.
Questions are joined to labels by category, image and text: published files differ in ids and in number.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

from components.data.tasks import SHORT_PROMPT
from components.errors import UserError
from components.evaluation.offline.files import json_values
from components.evaluation.offline.findings import Findings, examples
from components.evaluation.offline.joining import id_asked as key_asked
from components.evaluation.offline.joining import id_given as key_given
from components.evaluation.offline.questions import Files, Listed, bare, read_questions, stem
from components.evaluation.question import Question, Scores
from components.evaluation.rules import yes_no

__all__ = ["key_asked", "key_given"]

NAME = "pope"
CATEGORIES = ("adversarial", "popular", "random")
TASKS = tuple(f"pope_{category}" for category in CATEGORIES)
RULES = {"llava": yes_no.llava, "lmms_eval": yes_no.lmms_eval_pope, "vlmevalkit": yes_no.vlmevalkit}
MISSING_IS_WRONG = False  # LLaVA's rule looks at the answers that are there
WHOLE_GROUPS = False
SHARES = ()

Key = tuple[str, str]  # category, image
_ALIKE = 0.7  # of the letters of two spellings of one word


def read(files: Files, findings: Findings) -> list[Question]:
    """`questions`: llava_pope_test.jsonl, or the label file whose questions were asked; `annotations`: the folder of
    coco_pope_<category>.json, or one of them.
    """
    path = files.need("questions", NAME, "the question file that the answers' ids belong to (llava_pope_test.jsonl)")
    named = _category(path)  # POPE's own files name the category, LLaVA's questions each have one
    listed = [one if one.category else replace(one, category=named or "") for one in read_questions(path, findings)]
    folder = files.need("annotations", NAME, "the folder of the label files coco_pope_<category>.json")
    labels = _labels(folder, findings)
    matched = _match(listed, labels, findings)
    asked = [_question(one, label) for one, label in zip(listed, matched, strict=True) if label]
    if not asked:
        raise UserError(f"none of the {len(listed)} questions has a label in {folder}; are these files of POPE?")
    return asked


def _question(listed: Listed, label: str) -> Question:
    text = f"{bare(listed.text)}\n{SHORT_PROMPT}"
    task = f"pope_{listed.category}"
    return Question(
        listed.id, NAME, task, text, (label,), json.dumps(label), group=listed.image, image_name=listed.image
    )


def score(asked: Sequence[Question], answers: Sequence[str | None], rule: str = "llava") -> Scores:
    """Percent. An answer that is None counts against the model: a missed yes or a wrong yes."""
    read_answer = RULES[rule]
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    each = []
    for question, answer in zip(asked, answers, strict=True):
        label = json.loads(question.gold or '""')
        said = read_answer(answer) if answer is not None else _against(label)
        counts[question.task][f"{label} {said}"] += 1
        each.append(float(said == label))
    metrics = {task: _figures(count, rule) for task, count in counts.items()}
    means = {name: sum(figures[name] for figures in metrics.values()) / len(metrics) for name in ("f1", "accuracy")}
    return Scores({NAME: means, **metrics}, each)


def _against(label: str) -> str:
    return yes_no.NO if label == yes_no.YES else yes_no.YES


def _figures(count: dict[str, int], rule: str) -> dict[str, float]:
    """`count`: "label said" -> number."""
    hits, false = count["yes yes"], count["no yes"]
    missed = count["yes no"] + (0 if rule == "lmms_eval" else count["yes other"])
    total = sum(count.values())
    return {
        "f1": _percent(2 * hits, 2 * hits + false + missed),
        "accuracy": _percent(hits + count["no no"], total),
        "precision": _percent(hits, hits + false),
        "recall": _percent(hits, hits + missed),
        "yes_ratio": _percent(hits + false, total),
    }


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


# --- labels ---


def _labels(path: Path, findings: Findings) -> dict[Key, dict[str, str]]:
    """(category, image) -> question -> yes or no, from every file that names a category."""
    named = sorted(path.rglob("*.json*")) if path.is_dir() else [path]
    labels: dict[Key, dict[str, str]] = defaultdict(dict)
    read_from = []
    for file in named:
        category = _category(file)
        if category is None:
            continue
        read_from.append(category)
        for record in json_values(file, findings):
            if isinstance(record, dict) and record.get("label") in (yes_no.YES, yes_no.NO):
                of_image = labels[category, stem(str(record.get("image")))]
                of_image[_normal(str(record.get("text")))] = record["label"]
    if not read_from:
        raise UserError(f"{path} holds no label file of POPE: coco_pope_adversarial.json, _popular.json, _random.json")
    absent = [category for category in CATEGORIES if category not in read_from]
    if absent:
        findings.say(f"{path} has no label file for {', '.join(absent)}")
    return labels


def _category(file: Path) -> str | None:
    return next((name for name in CATEGORIES if name in file.name), None)


def _normal(text: str) -> str:
    words = bare(text).lower().rstrip("?. ").split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def _match(listed: Sequence[Listed], labels: dict[Key, dict[str, str]], findings: Findings) -> list[str | None]:
    """The label of each question: by the same words, else by the one question of that image that is only spelt
    otherwise. What is left on either side is told.
    """
    matched: list[str | None] = []
    left = {key: dict(of_image) for key, of_image in labels.items()}
    for one in listed:
        label = labels.get((one.category, stem(one.image)), {}).get(_normal(one.text))
        left.get((one.category, stem(one.image)), {}).pop(_normal(one.text), None)
        matched.append(label)
    known = (
        _objects(_normal(one.text) for one in listed),
        _objects(text for texts in labels.values() for text in texts),
    )
    respelt = []
    for place, one in enumerate(listed):
        if matched[place] is None:
            of_image = left.get((one.category, stem(one.image)), {})
            same = [text for text in of_image if _same_but_for_spelling(_normal(one.text), text, *known)]
            if len(same) == 1:
                matched[place] = of_image.pop(same[0])
                respelt.append(f"{bare(one.text)!r} as {same[0]!r}")
    if respelt:
        findings.say(f"{len(respelt)} questions were matched in spite of their spelling ({examples(respelt)})")
    unlabelled = [f"{one.category} {one.id}" for one, label in zip(listed, matched, strict=True) if label is None]
    findings.leave("questions without a label", unlabelled, "no label file has them; left out")
    categories = {one.category for one in listed}
    unasked = [f"{key[0]} {key[1]} {text}" for key, texts in left.items() if key[0] in categories for text in texts]
    findings.leave("labels without a question", unasked, "the question file does not ask them; left out")
    return matched


def _objects(texts: Iterable[str]) -> set[str]:
    """All words but each question's last, which is never the object."""
    return {word for text in texts for word in text.split()[:-1]}


def _same_but_for_spelling(question: str, label: str, asked: set[str], labelled: set[str]) -> bool:
    """Word by word alike; where an object's words differ, one of both spellings must be unknown to the other side,
    or "car" and "cat" would be one.
    """
    ours, theirs = question.split(), label.split()
    if len(ours) != len(theirs):
        return False
    for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine == other:
            continue
        if SequenceMatcher(None, mine, other).ratio() < _ALIKE:
            return False
        if place < len(ours) - 1 and mine in labelled and other in asked:
            return False
    return True
