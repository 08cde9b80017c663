"""The benchmarks by name: a module each, one line here. `evaluate.benchmarks` in params.yaml names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from components.data.schema import Row
from components.errors import UserError
from components.evaluation.benchmarks import chat, flickr30k, scienceqa, unifood
from components.evaluation.question import Question, Scores


class Benchmark(Protocol):
    """What a benchmark's module holds; its docstring names the rule it scores by."""

    @property
    def NAME(self) -> str: ...

    @property
    def TASKS(self) -> tuple[str, ...]: ...

    def questions(self, rows: Iterable[Row]) -> list[Question]: ...

    def score(self, asked: Sequence[Question], answers: Sequence[str]) -> Scores: ...


BENCHMARKS: dict[str, Benchmark] = {
    "unifood": unifood,
    "scienceqa": scienceqa,
    "flickr30k": flickr30k,
    "chat": chat,
}


def benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise UserError(f"params.yaml: evaluate.benchmarks names {name!r}; known: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
