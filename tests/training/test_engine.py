"""DeepSpeed for real: two processes, every ZeRO stage."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from components.params import load_params
from components.params.trees import merged
from components.training.engine import cosine
from tests.training.processes import free_port, run

ROOT = Path(__file__).parent.parent.parent
CASES = [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (2, "bf16"), (3, "bf16")]
WORKERS, MICRO_BATCHES = 2, 2


def _train(engine: Any, rank: int, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        torch.manual_seed(step * 7 + rank)  # dropout
        for micro in range(MICRO_BATCHES):
            generator = torch.Generator().manual_seed(step * 100 + micro * 10 + rank)
            ids = torch.randint(4, 200, (2, 12), generator=generator)
            ids[:, 1:5] = 3  # four image tokens
            labels = torch.where(torch.arange(12) > 6, ids, -100)
            pixels = torch.randn(2, 3, 16, 16, generator=generator)
            text_only = rank == 1 and micro == 1  # ranks with samples of another kind must not hang
            if text_only:
                ids[:, 1:5] = 7
            places = torch.arange(12).expand_as(ids)
            tokens = {"ids": ids, "labels": labels, "positions": places, "segments": torch.ones_like(ids)}
            tokens["previous"] = (places - 1).clamp(min=0)
            loss = engine(tokens, None if text_only else pixels)
            engine.backward(loss / 20)
            engine.step()
            losses.append(loss.item())
    return losses


def _work(rank: int, port: int, out: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(WORKERS), LOCAL_RANK=str(rank), DS_ACCELERATOR="cpu")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORKERS)
    from components.model.assemble import build, to_precision
    from components.model.base import Base, compose
    from components.training.engine import capture, restore, start_engine
    from components.training.loss import SupervisedLoss
    from tests.models import tiny_pieces

    params = load_params(ROOT / "params.yaml")
    vce = params.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2})
    results = {}
    for stage, precision in CASES:
        training = params.training.model_copy(
            update={"zero_stage": stage, "precision": precision, "micro_batch": 2, "workers": WORKERS}
        )

        def make(training: Any = training, precision: str = precision) -> Any:
            vision, language, tokenizer, processor = tiny_pieces()
            model = compose(vision, language, tokenizer, processor, seed=0)
            torch.manual_seed(5)
            model, _ = build(Base(model, tokenizer, processor, {}), vce, params.adapter)
            to_precision(model, precision)
            model.train()
            return start_engine(SupervisedLoss(model), params.finetune, training, 10, MICRO_BATCHES, WORKERS)

        engine = make()
        first = _train(engine, rank, 0, 3)
        state = capture(engine, 3, 3)
        whole = _train(engine, rank, 3, 6)
        end = capture(engine, 6, 6)
        fresh = make()
        restore(fresh, state)
        resumed = _train(fresh, rank, 3, 6)
        again = capture(fresh, 6, 6)
        equal = all(
            torch.equal(getattr(end, kind)[name], getattr(again, kind)[name])
            for kind in ("weights", "exp_avg", "exp_avg_sq")
            for name in end.weights
        )
        moved = sum(not torch.equal(end.weights[name], state.weights[name]) for name in end.weights)
        results[f"{stage} {precision}"] = {
            "losses": first + whole,
            "resumed": whole == resumed,
            "state": equal,
            "rates": engine.get_lr() == fresh.get_lr(),
            "buffers": sorted({str(b.dtype) for n, b in engine.module.named_buffers() if "inv_freq" in n}),
            "moved": moved / len(end.weights),
            "parts": sorted(
                {"vce" if ".vce." in n else "projector" if "projector" in n else "adapter" for n in end.weights}
            ),
        }
    if rank == 0:
        Path(out).write_text(json.dumps(results), encoding="utf-8")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("engine") / "results.json"
    run(_work, free_port(), str(out), processes=WORKERS)
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_resumed_training_equals_uninterrupted_to_the_bit(results: Any, stage: int, precision: str) -> None:
    case = results[f"{stage} {precision}"]
    assert case["resumed"]
    assert case["state"]
    assert case["rates"]


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_every_part_trains(results: Any, stage: int, precision: str) -> None:
    case = results[f"{stage} {precision}"]
    assert case["parts"] == ["adapter", "projector", "vce"]
    assert case["moved"] > (0.9 if precision == "fp32" else 0.6)


@pytest.mark.parametrize(("stage", "precision"), CASES)
def test_rotary_frequencies_keep_their_precision(results: Any, stage: int, precision: str) -> None:
    assert results[f"{stage} {precision}"]["buffers"] == ["torch.float32"]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_train_alike(results: Any, stage: int) -> None:
    assert results[f"{stage} fp32"]["losses"] == pytest.approx(results["0 fp32"]["losses"], rel=1e-4)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.1), (235, 0.03), (7, 0.03), (10, 0.0), (1, 0.5)])
def test_cosine_is_that_of_the_recipes_scripts(steps: int, warmup: float) -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimiser, math.ceil(steps * warmup), steps).lr_lambdas[0]
    share = cosine(steps, warmup)
    assert [share(step) for step in range(steps + 1)] == pytest.approx([theirs(step) for step in range(steps + 1)])


def test_cosine_rises_then_falls_to_zero() -> None:
    share = cosine(100, 0.1)
    rates = [share(step) for step in range(101)]
    assert rates[0] == 0
    assert max(rates) == rates[10] == 1
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0)


def test_experts_settings_go_over_ours() -> None:
    ours = {"zero_optimization": {"stage": 2}, "steps_per_print": 5}
    theirs = {"zero_optimization": {"overlap_comm": True}, "steps_per_print": 7}
    assert merged(ours, theirs) == {"zero_optimization": {"stage": 2, "overlap_comm": True}, "steps_per_print": 7}
