"""The models that answer: each by its parts on one base, with the journal of what it has answered already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.digests import digest, folder_digest
from components.errors import UserError
from components.evaluation.inference.asking import ask
from components.evaluation.inference.journal import Answered, Journal
from components.evaluation.question import Question
from components.imports import code_digest, library_versions
from components.locks import lock
from components.params import Evaluate, Finetune, Template
from components.workspace import home

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

PARTS_FILES = ("**/*.safetensors", "**/*.json")  # of a folder of parts; its log says nothing about its answers


@dataclass(frozen=True)
class System:
    """What another process needs to load a model that answers."""

    base: Path
    parts: Path | None
    template: Template
    image: Literal["crop", "pad"]
    use_gpu: bool

    def load(self) -> Assistant:
        import torch

        from components.evaluation.inference.assistant import load_assistant

        if self.use_gpu and not torch.cuda.is_available():
            raise UserError("params.yaml: evaluate.use_gpu is true, but torch sees no GPU here; set it to false")
        return load_assistant(self.base, self.parts, template=self.template, image=self.image, use_gpu=self.use_gpu)


class Systems:
    """`parts`: row -> folder of parts, None for the bare base. All are asked in the template of `recipe`.

    Rows with the same parts share a model and a journal. One model is in memory at a time, in this process or,
    with `evaluate.workers` above 1, in each of so many Ray actors.
    """

    def __init__(self, base: Path, parts: Mapping[str, Path | None], recipe: Finetune, evaluate: Evaluate) -> None:
        from components.model.stored import read_reference

        self._evaluate = evaluate
        self._systems = {
            row: System(
                base.resolve(),
                folder.resolve() if folder else None,
                recipe.template,
                recipe.image,
                evaluate.use_gpu,
            )
            for row, folder in parts.items()
        }
        self._loaded: dict[System, Assistant] = {}
        code = code_digest("components.evaluation.inference.assistant", "components.evaluation.inference.answering")
        common = [
            read_reference(base)["digest"],
            recipe.template,
            recipe.image,
            code,
            library_versions(),
            evaluate.use_gpu,  # CPUs answer in single precision, GPUs in that of the base
        ]
        self._states = {system: _run_state(common, system.parts) for system in dict.fromkeys(self._systems.values())}
        self._journals = {
            system: Journal(state / "answers.jsonl", evaluate.max_new_tokens) for system, state in self._states.items()
        }

    def assistant(self, row: str) -> Assistant:
        system = self._systems[row]
        if system not in self._loaded:
            self._loaded.clear()
            self._loaded[system] = system.load()
        return self._loaded[system]

    def left(self, row: str, asked: Sequence[Question]) -> int:
        """How many of the questions a row has not answered yet."""
        journal = self._journals[self._systems[row]]
        return sum(journal.get(question) is None for question in asked)

    def state(self, row: str) -> Path:
        """A row's run state: what was answered, and what is said of it."""
        return self._states[self._systems[row]]

    def answers(self, row: str, asked: Sequence[Question], max_new_tokens: int | None = None) -> list[Answered]:
        """A row's answers, from its journal as far as they are there; None: evaluate.max_new_tokens."""
        from components.batching.collator import MAX_PIXELS
        from components.evaluation.inference.answering import answers_by_batch
        from components.evaluation.inference.workers import Limits, answers_by_workers

        journal = self._journals[self._systems[row]]
        if max_new_tokens is not None:
            journal = Journal(self.state(row) / "open_answers.jsonl", max_new_tokens)
        limits = Limits(journal.max_new_tokens, self._evaluate.batch, MAX_PIXELS)

        def batches(left: Sequence[Question]) -> Iterator[dict[int, Answered]]:
            if self._evaluate.workers > 1:
                return answers_by_workers(self._systems[row], left, limits, self._evaluate)
            return answers_by_batch(self.assistant(row), left, **vars(limits))

        with lock(self.state(row).name):  # `lea clean` frees no answers that are being written
            return ask(batches, asked, journal, what=f"evaluate {row}")


def _run_state(common: list, folder: Path | None) -> Path:
    """A folder named by all that determines a model's answers."""
    contents = [folder_digest(folder, pattern) for pattern in PARTS_FILES] if folder else []
    return home() / "runs" / f"evaluate-{digest([*common, contents])[:16]}"
