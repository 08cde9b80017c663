"""How the experts of LoRA-MoE and RoDE are used, by layer and task, over test questions with their true answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.adapters import ExpertsLayer, RouterWeights
from components.evaluation.insight.teacher_forcing import by_task, read
from components.evaluation.question import Question
from components.files import write_csv

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

COLUMNS = ("layer", "task", "expert", "rank", "load", "off_share")


def write_experts(path: Path, assistant: Assistant, asked: Sequence[Question], max_pixels: int) -> None:
    """Each expert's rank, mean router weight, and share of tokens for which it is switched off (weight zero).

    Only the header where the model has no experts.
    """
    experts = {
        f"{layer}.expert_routers.{adapter}": (layer, ranks)
        for layer, module in assistant.model.named_modules()
        if isinstance(module, ExpertsLayer)
        for adapter, ranks in module.ranks.items()
    }
    records = []
    for task, chosen in by_task(asked) if experts else ():
        with RouterWeights(assistant.model) as routed:
            read(assistant, chosen, max_pixels)
        off = routed.share_off()
        for router, load in routed.load().items():
            layer, ranks = experts[router]
            figures = enumerate(zip(ranks, load.tolist(), off[router].tolist(), strict=True))
            records += [(layer, task, n, rank, f"{weight:.6f}", f"{zero:.6f}") for n, (rank, weight, zero) in figures]
    write_csv(path, COLUMNS, records)
