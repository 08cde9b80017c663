"""The method and the benchmark of docs/extending.md, run as they stand there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from torch import nn

from components import metrics
from components.adapters import register
from components.data.schema import Row, Sample, Turn
from components.metrics import Metric
from tests.extending import example, run_example


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Any:
    mappings: tuple[Any, ...] = (PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING)
    for mapping in mappings:
        monkeypatch.setitem(mapping, "GATED_LORA", None)  # so that it is taken out again
    module = run_example("gated_lora.py")
    register("GATED_LORA", module["GatedLoraConfig"], module["GatedLoraModel"])
    return module["GatedLoraConfig"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))


def test_method_starts_as_the_base_learns_and_loads_back(gated: Any, tmp_path: Path) -> None:
    x = torch.randn(5, 6)
    expected = network()(x)
    config = gated(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["0"])
    model: Any = get_peft_model(network(), config)  # type: ignore[arg-type]
    torch.testing.assert_close(model(x), expected)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(learning, lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        model(x).square().sum().backward()
        optimiser.step()
    after = model(x).detach()
    assert not torch.allclose(after, expected)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(network(), tmp_path)  # type: ignore[arg-type]
    torch.testing.assert_close(again(x), after)


def test_benchmark_asks_and_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    module = run_example("colour.py")
    row = Metric("colour.accuracy", "accuracy", "share", printed=True, compared=True)
    monkeypatch.setitem(metrics._BY_NAME, row.name, row)
    turns = [Turn("human", "What colour?"), Turn("assistant", "Red")]
    rows = [Row(f"g{n}", [Sample(str(n), "colour", turns)], source="mine") for n in range(3)]
    questions = module["from_rows"](rows)
    assert len(questions) == 3
    scores = module["score"](questions, ["red", "Blue it is", None])
    assert metrics.flat_metrics(scores.metrics) == pytest.approx({"colour.accuracy": 1 / 3})


@pytest.mark.parametrize("file", ["vqa_csv.py", "gated_lora.py", "colour.py"])
def test_example_is_one_short_file(file: str) -> None:
    assert len(example(file).splitlines()) <= 60
