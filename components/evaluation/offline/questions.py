"""Question files in LLaVA's layout: JSON lines {question_id, image, text, category}."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from components.data.schema import IMAGE_MARKER
from components.data.tasks import CHOICE_PROMPT, SHORT_PROMPT
from components.errors import UserError
from components.evaluation.offline.files import json_values, plain
from components.evaluation.offline.findings import Findings

PROMPTS = (SHORT_PROMPT, CHOICE_PROMPT, "Please answer yes or no.")  # LLaVA's two, MME's


@dataclass(frozen=True)
class Files:
    """What `lea score` was given. `annotations` may be a folder; `split` is for those that declare several."""

    questions: Path | None = None
    annotations: Path | None = None
    answers: tuple[Path, ...] = ()
    split: str | None = None

    def without_splits(self, benchmark: str) -> None:
        if self.split:
            raise UserError(f"{benchmark} has no splits to choose from; leave out split {self.split}")

    def need(self, option: str, benchmark: str, what: str) -> Path:
        path: Path | None = getattr(self, option)
        if path is None:
            raise UserError(f"{benchmark} needs --{option}: {what}")
        if not path.exists():
            raise UserError(f"{path} is missing; --{option} of {benchmark} is {what}")
        return path


@dataclass(frozen=True)
class Listed:
    """One line of a question file. `text` holds LLaVA's prompt."""

    id: str
    image: str
    text: str
    category: str


def read_questions(path: Path, findings: Findings) -> list[Listed]:
    values = json_values(path, findings)
    listed = [
        Listed(plain(v["question_id"]), plain(v.get("image")), v["text"], plain(v.get("category")))
        for v in values
        if isinstance(v, dict) and isinstance(v.get("text"), str) and v.get("question_id") is not None
    ]
    if not listed:
        raise UserError(f"{path} holds no questions: JSON lines of question_id, image, text and category are expected")
    if len(listed) < len(values):
        findings.note(f"{path}: {len(values) - len(listed)} records have no question_id or no text; left out")
    return listed


def bare(text: str) -> str:
    """A question without the requests for a short answer, blanks made one."""
    for prompt in PROMPTS:
        text = text.replace(prompt, "")
    return " ".join(text.split())


def plain_words(text: str) -> str:
    """Words of a question in lower case, without the image's marker, the benchmarks' requests and punctuation."""
    return " ".join(re.findall(r"\w+", bare(text.replace(IMAGE_MARKER, " ")).casefold()))


def stem(image: str) -> str:
    """An image's name without folder (of Windows, too) and ending: copies differ in both."""
    return PurePosixPath(image.replace("\\", "/")).name.rsplit(".", 1)[0]
