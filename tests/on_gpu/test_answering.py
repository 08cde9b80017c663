"""Answers on a GPU: fixed shapes, captured steps, the stages that answer, and VLoRA at its published size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from components.evaluation.inference import answering
from components.evaluation.inference.cache import Prefilled, roomy_cache
from components.evaluation.inference.stepped import SteppedDecoding, decode_in_steps
from tests.on_gpu.conftest import ON_CPU
from tests.workspace import prepare_workspace

pytestmark = pytest.mark.gpu
NEVER = frozenset({10**6})  # no token of the vocabulary


def _prefilled(device: torch.device) -> tuple[Any, Any]:
    from components.model.assemble import build
    from components.model.base import Base, compose
    from components.params import load_params
    from tests.models import tiny_pieces

    params = load_params(Path(__file__).parents[2] / "params.yaml")
    model, _ = build(Base(compose(*tiny_pieces(), seed=0), None, None, {}), None, params.adapter)
    model = model.to(device).eval()  # pyright: ignore
    ids = torch.randint(5, 200, (3, 20), generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        output = model(input_ids=ids, past_key_values=roomy_cache(model.config), use_cache=True, logits_to_keep=1)
    return model, Prefilled(output.past_key_values, torch.ones_like(ids), output.logits[:, -1], None)


def test_steps_give_the_tokens_of_the_growing_cache(device: torch.device) -> None:
    with torch.inference_mode():
        stepped = decode_in_steps(*_prefilled(device), NEVER, 150)
        growing = answering.decode_growing(*_prefilled(device), NEVER, 150)
    assert stepped == growing


@pytest.mark.skipif(ON_CPU, reason="a CPU has no CUDA graphs")
def test_captured_steps_give_the_same_tokens(device: torch.device) -> None:
    found = []
    with torch.inference_mode():
        for captured in (False, True):
            state = SteppedDecoding(*_prefilled(device), NEVER, 150, captured=captured)
            for _ in range(149):  # over one border of the cache
                if state.is_full:
                    state.grow()
                state.step()
            found.append(state.answers.tolist())
    assert found[0] == found[1]


@pytest.mark.skipif(ON_CPU, reason="a CPU has no CUDA graphs")
def test_step_that_no_graph_can_hold_goes_on_with_one_warning(device: torch.device) -> None:
    model, read = _prefilled(device)
    model.register_forward_hook(lambda module, inputs, output: output.logits.sum().item() and None)
    with torch.inference_mode():
        with pytest.warns(UserWarning, match="without a CUDA graph"):
            answers = decode_in_steps(model, read, NEVER, 60)
        again = decode_in_steps(*_prefilled(device), NEVER, 60)
    assert answers == again


def test_pipeline_trains_evaluates_registers_and_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.serving.predict import predict
    from pipelines import evaluate, finetune, pretrain, register

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "home"))
    on_gpu = not ON_CPU
    params = prepare_workspace(
        tmp_path,
        training__workers=1,
        training__use_gpu=on_gpu,
        training__precision="bf16" if on_gpu else "fp32",
        evaluate__use_gpu=on_gpu,
    )
    for stage in (pretrain, finetune, evaluate, register):
        stage.run(params)
    Image.new("RGB", (40, 30), (200, 30, 60)).save("dish.png")
    assert isinstance(predict("models:/lea@champion", Path("dish.png"), "What is it?"), str)


def test_vlora_at_its_published_size_learns_and_answers(device: torch.device) -> None:
    """7 billion parameters with random weights, one step of training and eight tokens of an answer."""
    from benchmarks.on_gpu.clock import Bench
    from benchmarks.on_gpu.models import base
    from components.costs.dry_run import Shape, inputs
    from components.model.assemble import build
    from components.model.base import Base
    from components.model.connector import picture
    from components.model.vision_tower import stop_after_last_level
    from components.params.profiles import load
    from components.training.loss import SupervisedLoss

    bench = Bench(device, ON_CPU, Path())
    params = load("tiny" if ON_CPU else "vlora")
    model, _ = build(Base(base(bench, params), None, None, {}), params.vce, params.adapter, params.connector.vlora)
    stop_after_last_level(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.to(device, bench.dtype)
    tokens, pixels = inputs(model, Shape(2, 64, 16, 2), device)
    tokens["ids"][:] = torch.randint(5, 500, tokens["ids"].shape, device=device)
    pixels = torch.randn(2, 3, *([pixels.shape[-1]] * 2), device=device) if pixels is not None else None
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    losses = []
    for _ in range(2):
        loss = SupervisedLoss(model.train())(tokens, pixels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert all(torch.isfinite(torch.tensor(losses)))
    assert losses[0] != losses[1]
    assert pixels is not None
    with torch.inference_mode():
        model.eval()
        seen = picture(model, pixels.to(bench.dtype), tokens["has_image"])
        output = model(
            input_ids=tokens["ids"], past_key_values=roomy_cache(model.config), use_cache=True, logits_to_keep=1, **seen
        )
        weights = next(iter(seen.values()))
        read = Prefilled(output.past_key_values, torch.ones_like(tokens["ids"]), output.logits[:, -1], weights)
        answers = decode_in_steps(model, read, NEVER, 8)
    assert [len(answer) for answer in answers] == [8, 8]
