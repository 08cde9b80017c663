"""All trained parameters as one tensor, beside its plain twin: DeepSpeed under ZeRO 2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from components.params import load_params
from tests.training.processes import free_port, run
from tests.training.test_engine import MICRO_BATCHES, ROOT, WORKERS, _train

CASES = [(1, "bf16"), (2, "fp32")]  # workers, precision
KINDS = ("weights", "exp_avg", "exp_avg_sq")


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def _make(on_gpu: bool, precision: str, workers: int) -> Any:
    """use_gpu chooses the flat engine; without a GPU it runs on the CPU."""
    from components.model.assemble import build, precision_of
    from components.model.base import Base, compose
    from components.training.engine import start_engine
    from components.training.loss import SupervisedLoss
    from tests.models import tiny_pieces

    params = load_params(ROOT / "params.yaml")
    vce = params.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2})
    changed = {"zero_stage": 2, "precision": precision, "micro_batch": 2, "workers": workers, "use_gpu": on_gpu}
    training = params.training.model_copy(update=changed)
    vision, language, tokenizer, processor = tiny_pieces()
    model = compose(vision, language, tokenizer, processor, seed=0)
    torch.manual_seed(5)
    model, _ = build(Base(model, tokenizer, processor, {}), vce, params.adapter)
    model.to(precision_of(precision))  # pyright: ignore
    module = SupervisedLoss(model.train())
    return start_engine(module, params.finetune, training, 10, MICRO_BATCHES, workers)


def _case(rank: int, workers: int, precision: str) -> dict[str, Any]:
    from components.training.engine import capture, restore
    from components.training.flat import FlatEngine

    twin, engine = _make(False, precision, workers), _make(True, precision, workers)
    assert isinstance(engine, FlatEngine)
    assert not isinstance(twin, FlatEngine)
    losses, expected = (_train(each, rank, 0, 3) for each in (engine, twin))
    state, other = capture(engine, 3, 3), capture(twin, 3, 3)
    norms = [float(each.get_global_grad_norm()) for each in (engine, twin)]
    fresh, crossed = _make(True, precision, workers), _make(True, precision, workers)
    restore(fresh, state)
    restore(crossed, other)
    whole, resumed, expected_more = (_train(each, rank, 3, 6) for each in (engine, fresh, twin))
    after_twin = _train(crossed, rank, 3, 6)
    end, again = capture(engine, 6, 6), capture(fresh, 6, 6)
    equal = all(torch.equal(getattr(end, kind)[n], getattr(again, kind)[n]) for kind in KINDS for n in end.weights)
    engine.backward(next(iter(engine.module.parameters())).sum() * 0 + _nan_of(engine))
    engine.step()
    engine.backward(_nan_of(engine))
    engine.step()
    kept = capture(engine, 7, 6)
    return {
        "losses": [losses + whole, expected + expected_more],
        "after the twin": after_twin,
        "norms": norms,
        "furthest": max(float((state.weights[n] - other.weights[n]).abs().max()) for n in state.weights),
        "names": list(state.weights) == list(other.weights) or sorted(state.weights) == sorted(other.weights),
        "resumed": whole == resumed and equal,
        "rates": [engine.get_lr(), fresh.get_lr(), twin.get_lr()],
        "overflow": engine.optimizer.overflow,
        "kept": all(torch.equal(getattr(end, kind)[n], getattr(kept, kind)[n]) for kind in KINDS for n in end.weights),
    }


def _nan_of(engine: Any) -> Any:
    trained = [p for p in engine.module.parameters() if p.requires_grad]
    return sum(p.sum() for p in trained) * float("nan")


def _work(rank: int, port: int, workers: int, out: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(workers), LOCAL_RANK=str(rank), DS_ACCELERATOR="cpu")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=workers)
    found: dict[str, Any] = {p: _case(rank, workers, p) for w, p in CASES if w == workers}
    if workers == 1:
        found["operators"] = [_operators(_make(on_gpu, "fp32", 1)) for on_gpu in (True, False)]
    if rank == 0:
        Path(out).write_text(json.dumps(found), encoding="utf-8")
    torch.distributed.destroy_process_group()


def _operators(engine: Any) -> int:
    """Dispatches of a step beyond those of forward and backward, which both engines have in common."""
    _train(engine, 0, 0, 1)
    trained = [p for p in engine.module.parameters() if p.requires_grad]
    alone = [p.detach().clone().requires_grad_() for p in trained]
    with _Count() as common:
        for _ in range(MICRO_BATCHES):
            _once(alone).backward()
            for parameter in alone:
                parameter.grad = None
    with _Count() as whole:
        for _ in range(MICRO_BATCHES):
            engine.backward(_once(trained))
            engine.step()
    return whole.count - common.count


def _once(parameters: Any) -> Any:
    return sum((p * 1.0).sum() for p in parameters)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Any]:
    found: dict[tuple[int, str], Any] = {}
    for workers in (1, WORKERS):
        out = tmp_path_factory.mktemp("flat") / "results.json"
        run(_work, free_port(), workers, str(out), processes=workers)
        found |= {(workers, name): case for name, case in json.loads(out.read_text(encoding="utf-8")).items()}
    return found


@pytest.mark.parametrize("case", CASES)
def test_trains_as_deepspeed_does(results: Any, case: tuple[int, str]) -> None:
    found, close = results[case], 1e-5 if case[1] == "fp32" else 0.02
    assert found["losses"][0] == pytest.approx(found["losses"][1], rel=close)
    assert found["norms"][0] == pytest.approx(found["norms"][1], rel=close)
    assert found["rates"][0] == found["rates"][2]
    assert found["names"]
    assert found["furthest"] < (1e-5 if case[1] == "fp32" else 0.02)


@pytest.mark.parametrize("case", CASES)
def test_resumes_to_the_bit_and_goes_on_from_deepspeed_s_state(results: Any, case: tuple[int, str]) -> None:
    found, close = results[case], 1e-5 if case[1] == "fp32" else 0.02
    assert found["resumed"]
    assert found["rates"][0] == found["rates"][1]
    assert found["after the twin"] == pytest.approx(found["losses"][1][-6:], rel=close)


@pytest.mark.parametrize("case", CASES)
def test_gradient_that_is_not_finite_changes_nothing(results: Any, case: tuple[int, str]) -> None:
    assert results[case]["overflow"]
    assert results[case]["kept"]


def test_step_takes_a_fraction_of_deepspeed_s_operators(results: Any) -> None:
    ours, deepspeed = results[1, "operators"]
    assert 0 < ours < deepspeed / 5, (ours, deepspeed)


def test_settings_choose_it_on_gpus_alone() -> None:
    training = load_params(ROOT / "params.yaml").training
    on_gpu = training.model_copy(update={"use_gpu": True})
    assert [on_gpu.updates_one_tensor(stage) for stage in range(4)] == [True, True, True, False]
    assert not training.updates_one_tensor(2)
    wished = on_gpu.model_copy(update={"deepspeed": {"zero_optimization": {"overlap_comm": True}}})
    assert not wished.updates_one_tensor(2)
