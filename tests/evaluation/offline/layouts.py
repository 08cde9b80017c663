"""Published layouts built in code, and how they are scored."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.data.tasks import SHORT_PROMPT
from components.evaluation.offline.printing import as_json, lines
from components.evaluation.offline.questions import Files
from components.evaluation.offline.scoring import Report, score_files


def jsonl(path: Path, records: Iterable[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def score(name: str, answers: Path | list[Path], rule: str | None = None, **files: Any) -> Report:
    given = answers if isinstance(answers, list) else [answers]
    report = score_files(name, Files(answers=tuple(given), **files), rule)
    json.dumps(as_json(report))
    assert list(lines(report))
    return report


def pope(
    folder: Path, asked: list[tuple[str, str, str]], labels: dict[str, list[tuple[str, str, str]]]
) -> dict[str, Any]:
    """asked: (category, image, text); labels: category -> (image, text, label), in an order of their own."""
    questions = [
        {"question_id": 100 + n, "image": image, "text": f"{text}\n{SHORT_PROMPT}", "category": category}
        for n, (category, image, text) in enumerate(asked)
    ]
    for category, of_category in labels.items():
        records = [
            {"question_id": n, "image": image, "text": text, "label": label}
            for n, (image, text, label) in enumerate(of_category, start=1)
        ]
        jsonl(folder / f"coco_pope_{category}.json", records)
    return {"questions": jsonl(folder / "llava_pope_test.jsonl", questions), "annotations": folder}


IN = "Is there a {} in the image?"
LABELS = [("1.jpg", IN.format("dog"), "yes"), ("1.jpg", IN.format("cat"), "no"), ("2.jpg", IN.format("car"), "yes")]


def mme(folder: Path) -> Path:
    folder.mkdir()
    count = [("1.jpg", "Is it one?", "Yes"), ("1.jpg", "Is it two?", "No"), ("2.jpg", "Is it one?", "No")]
    count.append(("2.jpg", "Is it  two?", "Yes"))
    for subtask, rows in {"count": count, "OCR": count[:2], "code_reasoning": count[:2]}.items():
        text = "".join(
            f"{image}\t{question} Please answer yes or no.\t{gold}\tmore\n" for image, question, gold in rows
        )
        (folder / f"{subtask}.txt").write_text(text)
    return folder


def mme_answers(path: Path, said: dict[str, str]) -> Path:
    """said: "subtask/image question" -> text."""
    records = []
    for key, text in said.items():
        id, _, question = key.partition(" ")
        records.append({"question_id": id, "prompt": f"{question}\n{SHORT_PROMPT}", "text": text})
    return jsonl(path, records)


SAID = {
    "count/1.jpg Is it one?": "Yes",
    "count/1.jpg Is it two?": "No",
    "count/2.jpg Is it two?": "yes, two",
    "count/2.jpg Is it one?": "I do not know",
    "OCR/1.jpg Is it one?": "Yes",
    "OCR/1.jpg Is it two?": "Yes",
    "code_reasoning/1.jpg Is it one?": "Yes",
    "code_reasoning/1.jpg Is it two?": "No",
}


def scienceqa(folder: Path) -> tuple[Path, Path]:
    """problems.json with its splits, and LLaVA's test file: the same two test questions."""
    problem = {"choices": ["x", "y"], "hint": "", "question": "Which?", "image": None}
    problems = {
        "1": problem | {"answer": 0},
        "2": problem | {"answer": 1, "image": "image.png"},
        "3": problem | {"answer": 0},
    }
    folder.mkdir()
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps({"train": ["3"], "test": ["1", "2"]}))
    test = [
        {"id": id, "conversations": [{"from": "human", "value": "Which?\nA. x\nB. y"}, {"from": "gpt", "value": gold}]}
        for id, gold in (("1", "A"), ("2", "B"))
    ]
    test[1]["image"] = "2/image.png"
    (folder / "llava_test_CQM-A.json").write_text(json.dumps(test))
    return folder / "problems.json", folder / "llava_test_CQM-A.json"
