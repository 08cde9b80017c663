"""The models that answer: each by its parts on one base, with the journal of what it has answered already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import components
from components.evaluation.journal import Journal
from components.home import digest, folder_digest, home
from components.params import Finetune

if TYPE_CHECKING:
    from components.model.assemble import Assistant

CODE = Path(components.__file__).parent
CODE_THAT_ANSWERS = (
    "adapters/*.py",
    "data/conversation.py",
    "data/images.py",
    "evaluation/answering.py",
    *(f"model/{name}.py" for name in ("assemble", "connector", "vision_input", "visual_cue")),
)
HELD = ("**/*.safetensors", "**/*.json")  # of a folder of parts; its log says nothing about its answers


class Systems:
    """`parts`: row -> folder of parts, None for the bare base. All are asked in the template of `asked_as`.

    Rows with the same parts share a model and a journal. One model is held in memory at a time.
    """

    def __init__(self, base: Path, parts: Mapping[str, Path | None], asked_as: Finetune, max_new_tokens: int) -> None:
        from components.model.stored import read_reference

        self._base, self._parts, self._asked_as = base, dict(parts), asked_as
        self._loaded: dict[Path | None, Assistant] = {}
        code = [folder_digest(CODE, pattern) for pattern in CODE_THAT_ANSWERS]
        common = [read_reference(base)["digest"], asked_as.template, asked_as.image, code]
        self._journals = {
            folder: Journal(_run_state(common, folder) / "answers.jsonl", max_new_tokens)
            for folder in dict.fromkeys(parts.values())
        }

    def journal(self, row: str) -> Journal:
        return self._journals[self._parts[row]]

    def assistant(self, row: str) -> Assistant:
        from components.model.assemble import load_assistant

        folder = self._parts[row]
        if folder not in self._loaded:
            self._loaded.clear()
            template, image = self._asked_as.template, self._asked_as.image
            self._loaded[folder] = load_assistant(self._base, folder, template=template, image=image)
        return self._loaded[folder]


def _run_state(common: list, folder: Path | None) -> Path:
    """A folder named by all that determines a model's answers."""
    held = [folder_digest(folder, pattern) for pattern in HELD] if folder else []
    return home() / "runs" / f"evaluate-{digest([*common, held])[:16]}"
