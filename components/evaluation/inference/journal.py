"""Answers kept as they come, so that a killed evaluation goes on without asking again.

One JSON-lines file for one model: {"question": digest, "answer": text}. The digest covers what the model
sees (text, image) and how long it may answer. A line that is no such record, as a kill cuts it short, is dropped
and its question asked again; so is one that failed, which leaves {"question": digest, "failed": reason}.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from components.digests import digest
from components.evaluation.question import Question


@dataclass(frozen=True)
class Failed:
    """In place of an answer: why there is none."""

    reason: str


Answered = str | Failed


class Journal:
    def __init__(self, path: Path, max_new_tokens: int) -> None:
        self.path = path
        self.max_new_tokens = max_new_tokens
        self._answers = self._read()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, question: Question) -> str | None:
        return self._answers.get(self.key(question))

    def add(self, answered: Iterable[tuple[Question, Answered]]) -> None:
        """Append answers and have the system write them."""
        fresh = {self.key(question): answer for question, answer in answered}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(json.dumps(_line(key, answer)) + "\n" for key, answer in fresh.items()))
        self._answers |= {key: answer for key, answer in fresh.items() if isinstance(answer, str)}

    def key(self, question: Question) -> str:
        return digest([question.image_hash, question.text, self.max_new_tokens])

    def _read(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("r+b") as stream:
                stream.truncate(whole)
        return dict(pair for line in content[:whole].split(b"\n") if (pair := _known(line)))


def _known(line: bytes) -> tuple[str, str] | None:
    """(question's digest, answer), or None for a line that holds no answer."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    key, answer = record.get("question"), record.get("answer")
    return (key, answer) if isinstance(key, str) and isinstance(answer, str) else None


def _line(key: str, answer: Answered) -> dict[str, str]:
    said = {"failed": answer.reason} if isinstance(answer, Failed) else {"answer": answer}
    return {"question": key, **said}
