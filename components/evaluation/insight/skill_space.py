"""Entropy and distribution of the skill space by layer and task (paper Figure 6), over test questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.adapters import DualLoraLayer
from components.evaluation.insight.measures import SkillSpaces
from components.evaluation.insight.teacher_forcing import by_task, read
from components.evaluation.question import Question
from components.files import write_csv

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

ENTROPY = ("layer", "task", "before", "after", "zero_share", "silent_share")
SHARES = ("layer", "task", "unit", "before", "after")


def write_skill_space(folder: Path, assistant: Assistant, asked: Sequence[Question], max_pixels: int) -> None:
    """Before and after rectification: nats (entropy.csv) and each unit's mean share of energy (skill_space.csv).

    entropy.csv also holds the share of task units at zero, and of tokens with all of them at zero. Only the headers
    where the model has no Dual-LoRA layer.
    """
    entropies, shares = [], []
    if any(isinstance(module, DualLoraLayer) for module in assistant.model.modules()):
        for task, chosen in by_task(asked):
            with SkillSpaces(assistant.model) as spaces:
                read(assistant, chosen, max_pixels)
            for layer, seen in spaces.layers().items():
                values = (seen.skill_entropy, seen.rectified_entropy, seen.zero_task_share, seen.silent_share)
                entropies.append((layer, task, *(f"{value:.6f}" for value in values)))
                units = enumerate(zip(seen.skill_shares, seen.rectified_shares, strict=True))
                shares += [(layer, task, unit, f"{before:.6f}", f"{after:.6f}") for unit, (before, after) in units]
    write_csv(folder / "entropy.csv", ENTROPY, entropies)
    write_csv(folder / "skill_space.csv", SHARES, shares)
