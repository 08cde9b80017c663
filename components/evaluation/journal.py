"""Answers kept as they come, so that a killed evaluation goes on without asking again.

One JSON-lines file for one model: {"question": digest, "answer": text}. The digest covers what the model
sees (text, image) and how long it may answer. A last line that a kill cut short is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from components.evaluation.question import Question
from components.home import digest


class Journal:
    def __init__(self, path: Path, max_new_tokens: int) -> None:
        self.path = path
        self.max_new_tokens = max_new_tokens
        self._answers = self._read()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, question: Question) -> str | None:
        return self._answers.get(self.key(question))

    def add(self, answered: Iterable[tuple[Question, str]]) -> None:
        """Append answers and have the system write them."""
        fresh = {self.key(question): answer for question, answer in answered}
        lines = [json.dumps({"question": key, "answer": answer}) + "\n" for key, answer in fresh.items()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(lines))
        self._answers |= fresh

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
        records = [json.loads(line) for line in content[:whole].splitlines()]
        return {record["question"]: record["answer"] for record in records}
