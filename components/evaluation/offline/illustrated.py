"""Questions of a published benchmark with their images, for a model to answer (`evaluate.files` in params.yaml)."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from components.errors import UserError
from components.evaluation.benchmarks import JUDGED, PUBLISHED, check_split
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files
from components.evaluation.question import Question
from components.images.decoding import ImageError
from components.images.store import ImageStore
from components.params import BenchmarkFiles


def published_questions(name: str, files: BenchmarkFiles | None, max_pixels: int) -> list[Question]:
    """All questions whose image is there, or that have none; what was left out is printed on standard error."""
    if files is None:
        raise UserError(f"params.yaml: evaluate.files.{name} is missing: questions, annotations and images of {name}")
    findings = Findings()
    given = files_of(files)
    check_split(name, given)
    questions = JUDGED[name].read(given, findings) if name in JUDGED else PUBLISHED[name].read(given, findings)
    if not questions:
        raise UserError(f"{files.annotations} holds no questions of {name}; see evaluate.files.{name} in params.yaml")
    if any(question.image is None and question.image_name is not None for question in questions):
        questions = _with_images(name, questions, files, max_pixels, findings)
    for line in findings.lines:
        print(f"{name}: {line}", file=sys.stderr)
    if name in JUDGED and len({question.id for question in questions}) < len(questions):
        raise UserError(
            f"{files.annotations}: questions of {name} share an id; their answers could not be distinguished"
        )
    return _with_distinct_ids(questions)


def files_of(files: BenchmarkFiles) -> Files:
    return Files(Path(files.questions) if files.questions else None, Path(files.annotations), split=files.split)


def _with_images(
    name: str, questions: list[Question], files: BenchmarkFiles, max_pixels: int, findings: Findings
) -> list[Question]:
    if files.images is None:
        raise UserError(f"params.yaml: evaluate.files.{name}.images is missing: the folder, zip or tar of its images")
    images = Path(files.images)
    store = ImageStore.open(images.parent, images.name, max_pixels)
    names = [question.image_name for question in questions if question.image_name is not None]
    held = {name: _read(store, name) for name in dict.fromkeys(names)}
    if not any(held.values()):
        raise UserError(f"{images} holds no image of {name} (the first is {names[0]!r})")
    absent = {name for name, image in held.items() if image is None}
    gone = [question.id for question in questions if question.image_name in absent]
    findings.count("questions without an image", gone, f"{images}: left out")
    left = [question for question in questions if question.image_name not in absent]
    return [question.shown(*image) if (image := held.get(question.image_name or "")) else question for question in left]


def _read(store: ImageStore, name: str) -> tuple[bytes, str] | None:
    """An image and its hash."""
    try:
        data, _ = store.read(name)
    except ImageError:
        return None
    return data, hashlib.sha256(data).hexdigest()


def _with_distinct_ids(questions: list[Question]) -> list[Question]:
    """MME's ids stand twice; a question's name must not."""
    seen: Counter[str] = Counter()
    apart = []
    for question in questions:
        seen[question.id] += 1
        number = seen[question.id]
        apart.append(question if number == 1 else replace(question, id=f"{question.id} ({number})"))
    return apart
