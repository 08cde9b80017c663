"""Do Dual-LoRA and mixtures of experts beat plain LoRA as tasks are added? All of them under 1, 2, 3, 6, 12 and 24.

One step sees DISHES_A_STEP photos with all questions of the point's tasks, so that steps, photos and what each task
brings are the same at every point: only the number of tasks grows, that one adapter of one size must hold. Each method
stands at the rank of params.yaml, and at the rank at which it has about as many parameters as Dual-LoRA there.
Scored is whether an answer is the true one, word for word, over all questions of the point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from components.errors import UserError
from components.model.assemble import put_adapter, trainable_groups
from components.model.base import read_config
from components.params import Params, validate_params
from components.params.trees import Value, changed
from components.synthetic.plates.posed import POSED
from components.tables.posed_data import SOURCE

COUNTS = (1, 2, 3, 6, 12, 24)
DISHES, TEST_DISHES, DISHES_A_STEP, EPOCHS = 320, 60, 16, 6
METHODS: dict[str, dict[str, Value]] = {
    "LoRA": {"adapter.kind": "lora"},
    "LoRA-MoE": {"adapter.kind": "lora_moe", "adapter.lora_moe.routing": "softmax"},
    "RoDE": {"adapter.kind": "rode"},
    "Dual-LoRA": {"adapter.kind": "dual_lora"},
}
EQUAL = "about as many parameters"  # as Dual-LoRA at the rank of params.yaml
MOST_RANKS = 3  # times the rank of params.yaml: how far equal parameters are looked for


@dataclass(frozen=True)
class Curve:
    """A method at one size. `parameters`: of its adapter."""

    name: str
    settings: Mapping[str, Value]
    parameters: int

    def params(self, base: Params, tasks: int, seed: int) -> Params:
        """The settings of stage 2 at one point."""
        batch = DISHES_A_STEP * tasks
        posed = {"kind": "llava_json", "path": "posed", "annotations": "drawn", "images": "drawn"}
        recipe: dict[str, Value] = {
            "finetune.sources": [SOURCE],
            "finetune.tasks": [one.name for one in POSED[:tasks]],
            "finetune.epochs": EPOCHS,
            "finetune.global_batch": batch,
            "training.micro_batch": batch,  # one pass of each worker: questions about a photo stay together
            "training.validate_every_steps": 0,
            "seed": seed,
        }
        tree = base.model_dump()
        tree["data"]["sources"][SOURCE] = posed
        return validate_params(changed(tree, {**self.settings, **recipe}), f"tasks: {self.name}")


def curves(params: Params, base: Path) -> list[Curve]:
    """All methods at the rank of params.yaml, then those that have another rank at Dual-LoRA's number of parameters."""
    rank = params.adapter.rank
    plain: dict[str, Value] = {"vce.enabled": False, "connector.kind": "projector"}
    found = []
    for name, kind in METHODS.items():
        settings = {**plain, **kind, "adapter.rank": rank}
        found.append(Curve(f"{name}, rank {rank}", settings, size_of(params, settings, base)))
    target = found[-1].parameters
    for name, kind in METHODS.items():
        sizes = {}
        for other in range(1, MOST_RANKS * rank + 1):
            try:
                sizes[other] = size_of(params, {**plain, **kind, "adapter.rank": other}, base)
            except UserError:  # a rank that its experts cannot share
                continue
        nearest = min(sizes, key=lambda other: (abs(sizes[other] - target), other))
        if nearest != rank:
            settings = {**plain, **kind, "adapter.rank": nearest}
            found.append(Curve(f"{name}, {EQUAL} (rank {nearest})", settings, sizes[nearest]))
    return found


def size_of(params: Params, settings: Mapping[str, Value], base: Path) -> int:
    """Parameters of an adapter with these settings, counted without weights."""
    adapter = validate_params(changed(params.model_dump(), dict(settings)), "tasks").adapter
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(read_config(base))
        model.requires_grad_(False)
        put_adapter(model, adapter)
    return sum(p.numel() for _, p in trainable_groups(model)["adapter"])


def exact(text: str, references: Sequence[str]) -> float:
    """1 for the true answer; case, spaces and a full stop at the end do not matter."""

    def plain(one: str) -> str:
        return " ".join(one.lower().split()).rstrip(".")

    return float(plain(text) in map(plain, references))
