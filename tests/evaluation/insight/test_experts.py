"""How experts are used, as the stage writes it, on a tiny LLaVA whose adapter has experts."""

from __future__ import annotations

import csv
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from components.adapters import LoraMoeConfig, RodeConfig, adapter_parameters
from components.evaluation.insight.experts import write_experts
from components.evaluation.insight.skill_space import write_skill_space
from components.evaluation.question import Question

TARGETS = {"lora_dropout": 0.0, "target_modules": r".*language_model.*(q|v)_proj"}


@pytest.mark.parametrize(
    ("config", "ranks"),
    [
        (LoraMoeConfig(r=4, num_experts=2, **TARGETS), [2, 2]),
        (LoraMoeConfig(r=4, num_experts=4, routing="top_k", top_k=2, **TARGETS), [1, 1, 1, 1]),
        (RodeConfig(r=6, ranks=[1, 2, 3], **TARGETS), [1, 2, 3]),
    ],
)
def test_load_and_share_off_are_written_by_layer_and_task(
    config: Any, ranks: list[int], assistant: Any, picture: Callable[[int], bytes], tmp_path: Path
) -> None:
    model = deepcopy(assistant.model)
    get_peft_model(model, config)
    torch.manual_seed(1)
    for parameter in adapter_parameters(model).values():
        torch.nn.init.normal_(parameter)
    asked = [question("caption", picture(1)), question("recipe", picture(2)), question("recipe", None)]
    write_experts(tmp_path / "experts.csv", replace(assistant, model=model), asked, 10**6)
    rows = list(csv.DictReader((tmp_path / "experts.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 2 * len(ranks)  # q and v of two blocks, two tasks
    assert {(int(row["expert"]), int(row["rank"])) for row in rows} == set(enumerate(ranks))
    assert all(row["layer"].endswith("_proj") for row in rows)
    loads = [float(row["load"]) for row in rows]
    off = [float(row["off_share"]) for row in rows]
    if isinstance(config, LoraMoeConfig):
        assert sum(loads) == pytest.approx(2 * 2 * 2, abs=1e-4)  # the weights of a token sum to 1
        assert sum(off) == pytest.approx(16 if config.routing == "top_k" else 0, abs=1e-4)
    else:
        assert min(loads) >= 0
        assert 0 < sum(off) / len(off) < 1
    write_skill_space(tmp_path, replace(assistant, model=model), asked, 10**6)
    assert len((tmp_path / "skill_space.csv").read_text().splitlines()) == 1


def question(task: str, image: bytes | None) -> Question:
    return Question(task, "x", task, "word1 word2", ("word3 word4",), image=image)
