"""VLoRA under DeepSpeed: two processes, one of them sometimes without an image."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from components.params import load_params
from tests.training.processes import free_port, run

ROOT = Path(__file__).parent.parent.parent
CASES = [("adapter", 0), ("adapter", 3), ("language_model", 3)]
WORKERS, MICRO_BATCHES, STEPS = 2, 2, 4


def _train(engine: Any, rank: int, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        torch.manual_seed(step * 7 + rank)
        for micro in range(MICRO_BATCHES):
            generator = torch.Generator().manual_seed(step * 100 + micro * 10 + rank)
            ids = torch.randint(4, 200, (2, 9), generator=generator)
            places = torch.arange(9).expand_as(ids)
            text_only = rank == 1 and micro == 1
            mixed = rank == 0 and micro == 1
            tokens = {
                "ids": ids,
                "labels": torch.where(places > 4, ids, -100),
                "positions": places,
                "segments": torch.ones_like(ids),
                "previous": (places - 1).clamp(min=0),
                "has_image": torch.tensor([not text_only, not text_only and not mixed]),
            }
            count = int(tokens["has_image"].sum())
            pixels = torch.randn(count, 3, 16, 16, generator=generator) if count else None
            loss = engine(tokens, pixels)
            engine.backward(loss / 20)
            engine.step()
            losses.append(loss.item())
    return losses


def _work(rank: int, port: int, out: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(WORKERS), LOCAL_RANK=str(rank), DS_ACCELERATOR="cpu")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORKERS)
    from components.model.assemble import build
    from components.model.base import Base, compose
    from components.training.engine import capture, restore, start_engine
    from components.training.loss import SupervisedLoss
    from tests.models import tiny_pieces

    params = load_params(ROOT / "params.yaml")
    vlora = params.connector.vlora.model_copy(update={"width": 16, "heads": 2, "rank": 2, "blocks": 1})
    results = {}
    for trained, stage in CASES:
        training = params.training.model_copy(update={"zero_stage": stage, "micro_batch": 2, "workers": WORKERS})
        adapter = params.adapter if trained == "adapter" else None

        def make(training: Any = training, adapter: Any = adapter) -> Any:
            vision, language, tokenizer, processor = tiny_pieces()
            model = compose(vision, language, tokenizer, processor, seed=0)
            torch.manual_seed(5)
            base = Base(model, tokenizer, processor, {})
            model, _ = build(base, None, adapter, vlora, train_language_model=adapter is None)
            model.train()
            return start_engine(SupervisedLoss(model), params.finetune, training, 10, MICRO_BATCHES, WORKERS)

        engine = make()
        losses = _train(engine, rank, 0, STEPS // 2)
        state = capture(engine, STEPS // 2, STEPS // 2)
        losses += _train(engine, rank, STEPS // 2, STEPS)
        end = capture(engine, STEPS, STEPS)
        fresh = make()
        restore(fresh, state)
        _train(fresh, rank, STEPS // 2, STEPS)
        again = capture(fresh, STEPS, STEPS)
        results[f"{trained} {stage}"] = {
            "losses": losses,
            "resumed": all(torch.equal(tensor, again.weights[name]) for name, tensor in end.weights.items()),
            "still": sorted(name for name, tensor in end.weights.items() if torch.equal(tensor, state.weights[name])),
        }
    if rank == 0:
        Path(out).write_text(json.dumps(results), encoding="utf-8")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("engine") / "results.json"
    run(_work, free_port(), str(out), processes=WORKERS)
    return json.loads(out.read_text(encoding="utf-8"))


def test_rank_without_images_trains_alike_under_zero_3(results: Any) -> None:
    assert results["adapter 3"]["losses"] == pytest.approx(results["adapter 0"]["losses"], rel=1e-4)


@pytest.mark.parametrize(("trained", "stage"), CASES)
def test_every_part_trains_and_resumes_to_the_bit(results: Any, trained: str, stage: int) -> None:
    case = results[f"{trained} {stage}"]
    assert case["resumed"]
    assert case["still"] == []
