"""MME: yes or no, two questions about each image, in ten subtasks of perception and four of cognition (Fu et al. 2023).

Rule: its own calculation (`mme`), which LLaVA runs: yes or no within the first four characters in lower case, else
wrong; a subtask scores accuracy + accuracy+ (both questions of an image right), in percent, 200 at most; perception
and cognition are sums. `lmms_eval` takes blanks and full stops out first; `vlmevalkit` looks for the one of both words.
The id "subtask/image" stands twice: the question's words distinguish the two.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from components.data.schema import IMAGE_MARKER
from components.data.tasks import SHORT_PROMPT
from components.errors import UserError
from components.evaluation.main_metric import MainMetric
from components.evaluation.offline.answers import Given, image_name
from components.evaluation.offline.files import text_lines
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files, bare, read_questions, stem
from components.evaluation.offline.sheets import each_once, id_of, note_own_gold, own_rows, right_of
from components.evaluation.question import Question, Scores
from components.evaluation.rules import yes_no

NAME = "mme"
PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
TASKS = tuple(f"mme_{subtask}" for subtask in (*PERCEPTION, *COGNITION))
RULES = {"mme": yes_no.first_four, "lmms_eval": yes_no.lmms_eval_mme, "vlmevalkit": yes_no.vlmevalkit}
MISSING_IS_WRONG = False  # its calculation reads the answers that are there
WHOLE_GROUPS = True  # .. in pairs
HAS_SPLITS = False
SHARES = ()
UNREAD_COUNT_AS = "as wrong"

Key = tuple[str, str, str]  # subtask, image, question


def read(files: Files, findings: Findings) -> list[Question]:
    """`annotations`: the folder of <subtask>.txt; `questions` (llava_mme.jsonl), if given, says which count. Without
    `questions`: a sheet that holds questions and labels, as the answers' own may be.
    """
    if files.questions is None and (files.annotations is None or files.annotations.is_file()):
        paths = files.answers if files.annotations is None else [files.annotations]
        if own := _of_sheets(paths, findings):
            _note_absent(paths[0], {question.task.removeprefix("mme_") for question in own}, findings)
            if files.annotations is None:
                note_own_gold(paths, findings)
            return own
    folder = files.need("annotations", NAME, "the folder of the ground truth, <subtask>.txt with image, question, gold")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; --annotations of mme is the folder that holds <subtask>.txt")
    gold = dict(_ground_truth(folder, findings))
    if not gold:
        raise UserError(
            f"{folder} holds no ground truth of MME: <subtask>.txt of image, question and Yes or No, by tabs"
        )
    _note_absent(folder, {key[0] for key in gold}, findings)
    if files.questions is None:
        return [_question(key, f"{key[0]}/{image}", text, label) for key, (image, text, label) in gold.items()]
    listed = read_questions(files.need("questions", NAME, "llava_mme.jsonl"), findings)
    keys = [_key(one.id, one.text) for one in listed]
    unknown = [one.id for one, key in zip(listed, keys, strict=True) if key not in gold]
    findings.count("questions without ground truth", unknown, "left out")
    findings.count("ground truth without a question", ["/".join(k) for k in gold if k not in set(keys)], "left out")
    return [
        _question(key, one.id, one.text, gold[key][2], one.image)
        for one, key in zip(listed, keys, strict=True)
        if key in gold
    ]


def _question(key: Key, id: str, text: str, label: str, image: str = "") -> Question:
    prompt = f"{bare(text)}\n{SHORT_PROMPT}"
    return Question(
        id, NAME, f"mme_{key[0]}", prompt, (label,), json.dumps(label), group="/".join(key[:2]), image_name=image or id
    )


def _note_absent(path: Path, present: Collection[str], findings: Findings) -> None:
    absent = [name for name in (*PERCEPTION, *COGNITION) if name not in present]
    if absent:
        findings.note(f"{path} has no ground truth for {', '.join(absent)}; the sums go over the others")


def _of_sheets(paths: Sequence[Path], findings: Findings) -> list[Question]:
    """Of sheets of index, question, answer, category (the subtask) and image_path, or an id that names both."""
    questions = []
    for row in own_rows(paths, findings):
        id, text, label = (
            id_of(row),
            row.get("question") or row.get("prompt", ""),
            (right_of(row) or row.get("answer", "")).strip().lower(),
        )
        subtask, image = row.get("category") or id.split("/")[0], image_name(row) or id
        if text and label in (yes_no.YES, yes_no.NO) and subtask in (*PERCEPTION, *COGNITION):
            key = _key(f"{subtask}/{image}", text)
            questions.append(_question(key, id, text, label, image))
    return each_once(questions, paths)


def question_key(question: Question) -> Key:
    return _key(question.id, question.text)


def answer_key(answer: Given) -> Key:
    return _key(answer.id, answer.prompt)


def _key(id: str, text: str) -> Key:
    return id.split("/")[0], stem(id), bare(text.replace(IMAGE_MARKER, " ")).lower()


def _ground_truth(folder: Path, findings: Findings) -> Iterator[tuple[Key, tuple[str, str, str]]]:
    """From <subtask>.txt of image, question, gold; or from the released folders, a text file for each image."""
    for file in sorted(folder.rglob("*.txt")):
        subtask = file.relative_to(folder).parts[0].removesuffix(".txt")
        if subtask not in (*PERCEPTION, *COGNITION):
            continue
        odd = 0
        for line in text_lines(file, findings):
            cells = [cell.strip() for cell in line.split("\t")]
            if file.parent != folder:
                cells.insert(0, f"{file.stem}.jpg")
            label = cells[2].lower() if len(cells) > 2 else ""
            if label in (yes_no.YES, yes_no.NO):
                yield _key(f"{subtask}/{cells[0]}", cells[1]), (cells[0], cells[1], label)
            else:
                odd += bool(line.strip())
        if odd:
            findings.note(f"{file}: {odd} lines are not image, question and Yes or No; left out")


def reading(question: Question, answer: str, rule: str) -> str | None:
    """yes or no."""
    found = RULES[rule](answer)
    return None if found == yes_no.OTHER else found


def score(questions: Sequence[Question], answers: Sequence[str | None], rule: str = "mme") -> Scores:
    read_answer = RULES[rule]
    each = [
        float(answer is not None and read_answer(answer) == json.loads(question.gold or '""'))
        for question, answer in zip(questions, answers, strict=True)
    ]
    by_image: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for question, right in zip(questions, each, strict=True):
        by_image[question.task][question.group].append(right)
    subtasks = {task: _subtask(list(by_image[task].values())) for task in TASKS if task in by_image}
    sums = {
        name: sum(subtasks[f"mme_{one}"]["score"] for one in members if f"mme_{one}" in subtasks)
        for name, members in (("perception", PERCEPTION), ("cognition", COGNITION))
    }
    return Scores({NAME: sums, **subtasks}, each)


def _subtask(images: Sequence[Sequence[float]]) -> dict[str, float]:
    rights = [right for of_image in images for right in of_image]
    pairs = [of_image for of_image in images if len(of_image) == 2]
    accuracy = 100 * sum(rights) / len(rights)
    plus = 100 * sum(all(pair) for pair in pairs) / len(pairs) if pairs else 0.0
    return {"score": accuracy + plus, "accuracy": accuracy, "accuracy_plus": plus}


def _image_sums(questions: Sequence[Question], answers: Sequence[str | None], scores: Sequence[float]) -> np.ndarray:
    """(images, 4): answers that are right, questions, 1 if both are right, 1 if there are two."""
    by_image: dict[str, list[float]] = defaultdict(list)
    for question, right in zip(questions, scores, strict=True):
        by_image[question.group].append(right)
    return np.array([(sum(r), len(r), len(r) == 2 and all(r), len(r) == 2) for r in by_image.values()], float)


def _score(means: np.ndarray) -> np.ndarray:
    """accuracy + accuracy+, as `_subtask`."""
    rights, number, both, pairs = (means[..., column] for column in range(4))
    plus = np.divide(both, pairs, out=np.zeros_like(both), where=pairs > 0)
    return 100 * (rights / number + plus)


MAIN = dict.fromkeys(TASKS, MainMetric("score", _image_sums, _score))
