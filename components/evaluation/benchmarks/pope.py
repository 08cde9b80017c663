"""POPE: is an object in the image? Adversarial, popular and random objects, half of them there (Li et al. 2023).

Rule: LLaVA's (`llava`): text before the first ".", commas removed; "no" if a word is No, not or no; otherwise yes.
F1 of "yes" for each category and their mean. `lmms_eval` takes only yes or no, alone, and leaves other answers out of
F1; `vlmevalkit` takes the one of both words that stands in the answer, other answers are not yes. Both toolkits print
the F1 of all questions together (pope_aggregate_f1_score, POPE_rating), which stands here as that of `pope`.
Questions are joined to labels by category, image and text: published files differ in ids and in number. VLMEvalKit's
result sheets hold question, answer and category themselves and are scored without other files.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from components.data.tasks import SHORT_PROMPT
from components.errors import UserError
from components.evaluation.main_metric import MainMetric
from components.evaluation.metrics.shares import percent_of
from components.evaluation.offline.answers import image_name
from components.evaluation.offline.files import json_values
from components.evaluation.offline.findings import Findings, examples
from components.evaluation.offline.joining import answer_id as answer_key
from components.evaluation.offline.joining import question_id as question_key
from components.evaluation.offline.questions import Files, Listed, bare, read_questions, stem
from components.evaluation.offline.sheets import each_once, id_of, note_own_gold, own_rows, right_of
from components.evaluation.question import Question, Scores
from components.evaluation.rules import yes_no

__all__ = ["answer_key", "question_key"]

NAME = "pope"
CATEGORIES = ("adversarial", "popular", "random")
TASKS = tuple(f"pope_{category}" for category in CATEGORIES)
RULES = {"llava": yes_no.llava, "lmms_eval": yes_no.lmms_eval_pope, "vlmevalkit": yes_no.vlmevalkit}
MISSING_IS_WRONG = False  # LLaVA's rule looks at the answers that are there
WHOLE_GROUPS = False
HAS_SPLITS = False
SHARES = ()
UNREAD_COUNT_AS = "as yes by the rule llava, as not yes by the others"

Key = tuple[str, str]  # category, image
_ALIKE = 0.7  # of the letters of two spellings of one word


def read(files: Files, findings: Findings) -> list[Question]:
    """`questions`: llava_pope_test.jsonl, or the label file whose questions were answered; `annotations`: the folder of
    coco_pope_<category>.json, or one of them. Without `questions`: a sheet that holds questions and labels, as the
    answers' own may be.
    """
    if files.questions is None:
        paths = files.answers if files.annotations is None else [files.annotations]
        own = each_once(_of_sheets(paths, findings), paths)
        if own:
            absent = [category for category in CATEGORIES if f"pope_{category}" not in {one.task for one in own}]
            if absent:
                findings.note(f"{paths[0]} has no label for {', '.join(absent)}; the mean goes over the others")
            if files.annotations is None:
                note_own_gold(paths, findings)
            return own
    path = files.need("questions", NAME, "the question file that the answers' ids belong to (llava_pope_test.jsonl)")
    named = _category(path)  # POPE's own files name the category, LLaVA's questions each have one
    listed = [one if one.category else replace(one, category=named or "") for one in read_questions(path, findings)]
    folder = files.need("annotations", NAME, "the folder of the label files coco_pope_<category>.json")
    labels = _labels(folder, findings)
    matched = _match(listed, labels, findings)
    questions = [_question(one, label) for one, label in zip(listed, matched, strict=True) if label]
    if not questions:
        raise UserError(f"none of the {len(listed)} questions has a label in {folder}; are these files of POPE?")
    return questions


def _of_sheets(paths: Sequence[Path], findings: Findings) -> Iterator[Question]:
    """Of sheets of index, question, answer and category (several by commas: the question counts in each)."""
    for row in own_rows(paths, findings):
        id, text, right = id_of(row), row.get("question") or row.get("prompt", ""), row.get("answer", "")
        label = (right_of(row) or right).strip().lower()
        for category in (part.strip() for part in row.get("category", "").split(",")):
            if id and label in (yes_no.YES, yes_no.NO) and text and category in CATEGORIES:
                yield _question(Listed(id, image_name(row) or id, text, category), label)


def _question(listed: Listed, label: str) -> Question:
    text = f"{bare(listed.text)}\n{SHORT_PROMPT}"
    task = f"pope_{listed.category}"
    return Question(
        listed.id, NAME, task, text, (label,), json.dumps(label), group=listed.image, image_name=listed.image
    )


def score(questions: Sequence[Question], answers: Sequence[str | None], rule: str = "llava") -> Scores:
    """Percent. An answer that is None counts against the model: a missed yes or a wrong yes."""
    read_answer = RULES[rule]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    each = []
    for question, answer in zip(questions, answers, strict=True):
        label = json.loads(question.gold or '""')
        predicted = read_answer(answer) if answer is not None else _against(label)
        counts[question.task][f"{label} {predicted}"] += 1
        each.append(float(predicted == label))
    metrics = {task: _figures(count, rule) for task, count in counts.items()}
    if rule == "llava":
        whole = {name: sum(figures[name] for figures in metrics.values()) / len(metrics) for name in ("f1", "accuracy")}
    else:
        whole = _figures(sum(counts.values(), Counter()), rule)
    return Scores({NAME: whole, **metrics}, each)


def reading(question: Question, answer: str, rule: str) -> str | None:
    """yes or no; None, too, where LLaVA's rule takes for yes what it finds no "no" in: **No**, NO and No!"""
    found = RULES[rule](answer)
    unread = found == yes_no.OTHER or (rule == "llava" and found == yes_no.YES and not yes_no.names_yes(answer))
    return None if unread else found


def _against(label: str) -> str:
    return yes_no.NO if label == yes_no.YES else yes_no.YES


def _figures(count: Counter[str], rule: str) -> dict[str, float]:
    """`count`: "label answer" -> number."""
    hits, false = count["yes yes"], count["no yes"]
    missed = count["yes no"] + (0 if rule == "lmms_eval" else count["yes other"])
    total = sum(count.values())
    return {
        "f1": percent_of(2 * hits, 2 * hits + false + missed),
        "accuracy": percent_of(hits + count["no no"], total),
        "precision": percent_of(hits, hits + false),
        "recall": percent_of(hits, hits + missed),
        "yes_ratio": percent_of(hits + false, total),
    }


def _yes_sums(questions: Sequence[Question], answers: Sequence[str | None], scores: Sequence[float]) -> np.ndarray:
    """(questions, 2) by LLaVA's rule, which reads yes or no in every answer: yes that is right, anything wrong."""
    golds = [json.loads(question.gold or '""') for question in questions]
    return np.array(
        [(gold == yes_no.YES and right, not right) for gold, right in zip(golds, scores, strict=True)], float
    )


def _f1(means: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) in percent, 0 where nothing is yes."""
    hits, wrong = means[..., 0], means[..., 1]
    return 100 * np.divide(2 * hits, 2 * hits + wrong, out=np.zeros_like(hits), where=2 * hits + wrong > 0)


MAIN = dict.fromkeys(TASKS, MainMetric("f1", _yes_sums, _f1))


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
        findings.note(f"{path} has no label file for {', '.join(absent)}")
    return labels


def _category(file: Path) -> str | None:
    return next((name for name in CATEGORIES if name in file.name), None)


def _normal(text: str) -> str:
    words = bare(text).lower().rstrip("?. ").split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def _match(listed: Sequence[Listed], labels: dict[Key, dict[str, str]], findings: Findings) -> list[str | None]:
    """The label of each question: by the same words, else by the one question of that image that is only spelt
    otherwise. What is left on either side is reported.
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
        findings.note(f"{len(respelt)} questions were matched in spite of their spelling ({examples(respelt)})")
    unlabelled = [f"{one.category} {one.id}" for one, label in zip(listed, matched, strict=True) if label is None]
    findings.count("questions without a label", unlabelled, "no label file has them; left out")
    categories = {one.category for one in listed}
    extra = [f"{key[0]} {key[1]} {text}" for key, texts in left.items() if key[0] in categories for text in texts]
    findings.count("labels without a question", extra, "the question file does not ask them; left out")
    return matched


def _objects(texts: Iterable[str]) -> set[str]:
    """All words but each question's last, which is never the object."""
    return {word for text in texts for word in text.split()[:-1]}


def _same_but_for_spelling(question: str, label: str, in_questions: set[str], in_labels: set[str]) -> bool:
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
        if place < len(ours) - 1 and mine in in_labels and other in in_questions:
            return False
    return True
