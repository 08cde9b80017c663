"""The benchmarks by name: a module each, one line here.

BENCHMARKS ask the test split's own samples; `evaluate.benchmarks` in params.yaml names them. PUBLISHED have files of
their own, for answers made elsewhere (`lea score`), and score by a rule; JUDGED are graded by a judge model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from components.data.schema import Row
from components.errors import UserError
from components.evaluation.benchmarks import (
    chat,
    flickr30k,
    llava_bench,
    mm_vet,
    mmbench,
    mme,
    pope,
    scienceqa,
    seed_bench,
    unifood,
)
from components.evaluation.judge.grades import Ask, Grade
from components.evaluation.offline.answers import Given
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files
from components.evaluation.question import Question, Scores


class Benchmark(Protocol):
    """What a benchmark's module holds; its docstring names the rule it scores by."""

    @property
    def NAME(self) -> str: ...

    @property
    def TASKS(self) -> tuple[str, ...]: ...

    def questions(self, rows: Iterable[Row]) -> list[Question]: ...

    def score(self, asked: Sequence[Question], answers: Sequence[str | None]) -> Scores: ...


class Published(Protocol):
    """A benchmark with question and gold files of its own.

    RULES: by name, the first is the default. MISSING_IS_WRONG: what that rule does with a question without an
    answer; WHOLE_GROUPS: leaving one out leaves out its group. SHARES: metrics that are 0..1, not percent.
    """

    @property
    def NAME(self) -> str: ...

    @property
    def RULES(self) -> Mapping[str, Any]: ...

    @property
    def MISSING_IS_WRONG(self) -> bool: ...

    @property
    def WHOLE_GROUPS(self) -> bool: ...

    @property
    def SHARES(self) -> tuple[str, ...]: ...

    def read(self, files: Files, findings: Findings) -> list[Question]: ...

    @property
    def key_asked(self) -> Callable[[Question], Hashable]: ...

    @property
    def key_given(self) -> Callable[[Given], Hashable]: ...

    def score(self, asked: Sequence[Question], answers: Sequence[str | None], rule: str = ...) -> Scores: ...


class Judged(Protocol):
    """A benchmark that a judge model grades."""

    @property
    def NAME(self) -> str: ...

    @property
    def RULES(self) -> Mapping[str, Any]: ...

    @property
    def SYSTEM(self) -> str: ...

    @property
    def TEMPERATURE(self) -> float: ...

    @property
    def MAX_TOKENS(self) -> int: ...

    def asked(self, files: Files, findings: Findings) -> list[Question]: ...

    def check_gradable(self, files: Files) -> Path: ...

    def read_grades(self, path: Path, findings: Findings) -> list[Grade]: ...

    def summary(
        self, grades: Sequence[Grade], questions: Sequence[Question], rule: str, path: Path, findings: Findings
    ) -> dict[str, dict[str, float]]: ...

    def to_grade(self, path: Path, files: Files, instructions: str | None, findings: Findings) -> Iterator[Ask]: ...

    def parse(self, reply: str) -> dict[str, Any] | None: ...


BENCHMARKS: dict[str, Benchmark] = {
    "unifood": unifood,
    "scienceqa": scienceqa,
    "flickr30k": flickr30k,
    "chat": chat,
}

PUBLISHED: dict[str, Published] = {
    "unifood": unifood,
    "scienceqa": scienceqa,
    "flickr30k": flickr30k,
    "pope": pope,
    "mme": mme,
    "mmbench": mmbench,
    "seed_bench": seed_bench,
}

WITH_SPLITS = ("unifood", "scienceqa", "flickr30k")  # those whose files may declare splits

JUDGED: dict[str, Judged] = {
    "mm_vet": mm_vet,
    "llava_bench": llava_bench,
}


def scored(name: str) -> Benchmark | Published:
    """The benchmark that a question names."""
    return PUBLISHED[name] if name in PUBLISHED else BENCHMARKS[name]


def benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise UserError(
            f"params.yaml: evaluate.benchmarks names {name!r}; known: {', '.join(BENCHMARKS | PUBLISHED | JUDGED)}"
        )
    return BENCHMARKS[name]
