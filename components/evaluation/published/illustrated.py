"""Questions of a published benchmark with their images, for a model to answer (`evaluate.files` in params.yaml)."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from components.data.image_store import ImageStore
from components.data.images import ImageError
from components.errors import UserError
from components.evaluation.benchmarks import JUDGED, PUBLISHED
from components.evaluation.published.findings import Findings
from components.evaluation.published.questions import Files
from components.evaluation.question import Question
from components.params import BenchmarkFiles


def published_questions(name: str, files: BenchmarkFiles | None, max_pixels: int) -> list[Question]:
    """All questions whose image is there; what was left out is told on standard error."""
    if name in JUDGED:
        raise UserError(
            f"params.yaml: evaluate.benchmarks names {name}, which a judge model grades; see: lea score --help"
        )
    if files is None:
        raise UserError(f"params.yaml: evaluate.files.{name} is missing: questions, annotations and images of {name}")
    findings = Findings()
    given = Files(Path(files.questions) if files.questions else None, Path(files.annotations))
    asked = PUBLISHED[name].read(given, findings)
    if any(question.image is None for question in asked):
        asked = _with_images(name, asked, files, max_pixels, findings)
    for line in findings.lines:
        print(f"{name}: {line}", file=sys.stderr)
    return _named_apart(asked)


def _with_images(
    name: str, asked: list[Question], files: BenchmarkFiles, max_pixels: int, findings: Findings
) -> list[Question]:
    if files.images is None:
        raise UserError(f"params.yaml: evaluate.files.{name}.images is missing: the folder, zip or tar of its images")
    images = Path(files.images)
    store = ImageStore.open(images.parent, images.name, max_pixels)
    held: dict[str, tuple[bytes, str] | None] = {}
    for wanted in {question.image_name or "" for question in asked}:
        try:
            data, _ = store.read(wanted)
            held[wanted] = data, hashlib.sha256(data).hexdigest()
        except ImageError:
            held[wanted] = None
    absent = [question.id for question in asked if held[question.image_name or ""] is None]
    findings.leave("questions without an image", absent, f"{images}: not asked")
    shown = [question.shown(*image) for question in asked if (image := held[question.image_name or ""])]
    if not shown:
        raise UserError(f"{images} holds no image of {name} (the first is {asked[0].image_name!r})")
    return shown


def _named_apart(asked: list[Question]) -> list[Question]:
    """MME's ids stand twice; a question's name must not."""
    seen: Counter[str] = Counter()
    apart = []
    for question in asked:
        seen[question.id] += 1
        number = seen[question.id]
        apart.append(question if number == 1 else replace(question, id=f"{question.id} ({number})"))
    return apart
