"""The benchmarks: a module each, one line in MODULES, and rows in components/metrics.py for what it measures.

A module with `from_rows` asks the test split's own samples (`evaluate.benchmarks` in params.yaml); one with `read` and
`score` has files of its own, for answers made elsewhere (`lea score`), and scores by a rule; one with `to_grade` is
graded by a judge model.
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
from components.evaluation.judge.grades import Grade, Request
from components.evaluation.main_metric import MainMetric
from components.evaluation.offline.answers import Given
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files
from components.evaluation.question import Question, Scores

MODULES: tuple[Any, ...] = (
    unifood,
    scienceqa,
    flickr30k,
    chat,
    pope,
    mme,
    mmbench,
    seed_bench,
    mm_vet,
    llava_bench,
)


class Benchmark(Protocol):
    """What a benchmark's module holds; its docstring names the rule it scores by.

    MAIN: each task's main metric, for comparisons of two models on the same questions.
    """

    @property
    def NAME(self) -> str: ...

    @property
    def TASKS(self) -> tuple[str, ...]: ...

    @property
    def MAIN(self) -> Mapping[str, MainMetric]: ...

    def from_rows(self, rows: Iterable[Row]) -> list[Question]: ...

    def score(self, questions: Sequence[Question], answers: Sequence[str | None]) -> Scores: ...


class Published(Protocol):
    """A benchmark with question and gold files of its own.

    RULES: by name, the first is the default. MISSING_IS_WRONG: what that rule does with a question without an
    answer; WHOLE_GROUPS: leaving one out leaves out its group. SHARES: metrics that are 0..1, not percent.
    HAS_SPLITS: its files may declare splits. `reading`: what the rule finds in an answer, None where that is nothing;
    UNREAD_COUNT_AS: what such answers count as.
    """

    @property
    def NAME(self) -> str: ...

    @property
    def TASKS(self) -> tuple[str, ...]: ...

    @property
    def MAIN(self) -> Mapping[str, MainMetric]: ...

    @property
    def RULES(self) -> Mapping[str, Any]: ...

    @property
    def MISSING_IS_WRONG(self) -> bool: ...

    @property
    def WHOLE_GROUPS(self) -> bool: ...

    @property
    def HAS_SPLITS(self) -> bool: ...

    @property
    def SHARES(self) -> tuple[str, ...]: ...

    @property
    def UNREAD_COUNT_AS(self) -> str: ...

    def read(self, files: Files, findings: Findings) -> list[Question]: ...

    @property
    def question_key(self) -> Callable[[Question], Hashable]: ...

    @property
    def answer_key(self) -> Callable[[Given], Hashable]: ...

    def score(self, questions: Sequence[Question], answers: Sequence[str | None], rule: str = ...) -> Scores: ...

    def reading(self, question: Question, answer: str, rule: str) -> str | None: ...


class Judged(Protocol):
    """A benchmark that a judge model grades."""

    @property
    def NAME(self) -> str: ...

    @property
    def TASKS(self) -> tuple[str, ...]: ...

    @property
    def RULES(self) -> Mapping[str, Any]: ...

    @property
    def SYSTEM(self) -> str: ...

    @property
    def TEMPERATURE(self) -> float: ...

    @property
    def MAX_TOKENS(self) -> int: ...

    def read(self, files: Files, findings: Findings) -> list[Question]: ...

    def check_gradable(self, files: Files) -> Path: ...

    def read_grades(self, path: Path, findings: Findings) -> list[Grade]: ...

    def summary(
        self, grades: Sequence[Grade], questions: Sequence[Question], rule: str, path: Path, findings: Findings
    ) -> dict[str, dict[str, float]]: ...

    def to_grade(self, path: Path, files: Files, instructions: str | None, findings: Findings) -> Iterator[Request]: ...

    def parse(self, reply: str) -> dict[str, Any] | None: ...


BENCHMARKS: dict[str, Benchmark] = {module.NAME: module for module in MODULES if hasattr(module, "from_rows")}
JUDGED: dict[str, Judged] = {module.NAME: module for module in MODULES if hasattr(module, "to_grade")}
PUBLISHED: dict[str, Published] = {
    module.NAME: module for module in MODULES if hasattr(module, "read") and module.NAME not in JUDGED
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


def check_split(name: str, files: Files) -> None:
    """UserError for a split of a benchmark whose files declare none."""
    if name in JUDGED or not PUBLISHED[name].HAS_SPLITS:
        files.without_splits(name)
