"""Training steps on a GPU under every ZeRO stage and attention, and the same bits after a kill."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from components.params import load_params
from components.training import stage
from components.training.job import Job, from_message, to_message
from tests.on_gpu.conftest import ON_CPU
from tests.workspace import prepare_workspace

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parent.parent.parent
ATTENTIONS = ("sdpa",) if ON_CPU else ("sdpa", "flex")  # flex has no backward pass on CPUs
CASES = [(zero, attention, "flat") for zero in (0, 2) for attention in ("sdpa", "flex")]
CASES += [(zero, attention, "deepspeed") for zero in (0, 2, 3) for attention in ("sdpa", "flex")]
STEPS = 6


def _group(rank: int, store: str, workers: int = 1) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(workers), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    if ON_CPU:
        os.environ["DS_ACCELERATOR"] = "cpu"
    else:
        torch.cuda.set_device(rank)
    backend = "gloo" if ON_CPU else "nccl"
    dist.init_process_group(backend, rank=rank, world_size=workers, store=dist.FileStore(store, workers))  # pyright: ignore


def _engine(zero: int, attention: str, kind: str, precision: str = "fp32", **also: Any) -> Any:
    from components.model.assemble import build, precision_of
    from components.model.base import Base, compose
    from components.training.engine import start_engine
    from components.training.loss import SupervisedLoss
    from tests.models import tiny_pieces

    params = load_params(ROOT / "params.yaml")
    vce = params.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2})
    more = {"deepspeed": {"steps_per_print": 10**9}} if kind == "deepspeed" else {}
    changed = {"zero_stage": zero, "attention": attention, "precision": precision, "use_gpu": True, **more, **also}
    training = params.training.model_copy(update={"micro_batch": 2, "workers": 1, **changed})
    vision, language, tokenizer, processor = tiny_pieces()
    model = compose(vision, language, tokenizer, processor, seed=0)
    torch.manual_seed(5)
    model, _ = build(Base(model, tokenizer, processor, {}), vce, params.adapter)
    model.to(precision_of(precision))  # pyright: ignore
    module = SupervisedLoss(model.eval())  # no dropout: its numbers differ between attentions
    return start_engine(module, params.finetune, training, 10, 1, 1)


def batch_of(step: int) -> Any:
    """Two sequences of 128 places with an image each; numbers by the step."""
    from components.batching.collator import Batch

    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(4, 200, (2, 128), generator=generator)
    ids[:, 1:5] = 3  # four image tokens
    places = torch.arange(128).expand_as(ids)
    tokens = {
        "ids": ids,
        "labels": torch.where(torch.arange(128) > 60, ids, -100),
        "positions": places,
        "segments": torch.where(torch.arange(128) < 120, (torch.arange(128) > 40).long(), -1).expand_as(ids),
        "previous": (places - 1).clamp(min=0),
        "has_image": torch.ones(2, dtype=torch.bool),
    }
    return Batch(tokens, torch.randn(2, 3, 16, 16, generator=generator), 2, 0)


def _losses(engine: Any, kind: str) -> list[float]:
    from components.training.guard import Guard
    from components.training.step import train_step

    found = []
    for step in range(3):
        figures = train_step(engine, [batch_of(step)], Guard(0))
        assert figures.complaint is None
        assert figures.grad_norm > 0 or kind == "deepspeed"
        found.append(figures.loss)
    return found


def _steps(rank: int, store: str, out: str) -> None:
    _group(rank, store)
    found = {}
    for zero, attention, kind in CASES:
        if attention in ATTENTIONS:
            found[f"{zero} {attention} {kind}"] = _losses(_engine(zero, attention, kind), kind)
    found["compiled"] = _losses(_engine(2, "sdpa", "flat", compile_blocks=True), "flat")
    found["checkpointed"] = _losses(_engine(2, "sdpa", "flat", activation_checkpointing=True), "flat")
    for kind in ("flat", "deepspeed"):
        found[f"bf16 {kind}"] = _losses(_engine(2, "sdpa", kind, "bf16"), kind)
    Path(out).write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    if not torch.cuda.is_available() and not ON_CPU:
        pytest.skip("torch sees no CUDA device")
    folder = tmp_path_factory.mktemp("steps")
    mp.spawn(_steps, (str(folder / "store"), str(folder / "losses.json")), nprocs=1)  # pyright: ignore
    return json.loads((folder / "losses.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("zero", "attention", "kind"), CASES)
def test_step_learns_the_same_under_every_stage_attention_and_engine(
    losses: dict[str, list[float]], zero: int, attention: str, kind: str
) -> None:
    if attention not in ATTENTIONS:
        pytest.skip("flex has no backward pass on CPUs")
    found = losses[f"{zero} {attention} {kind}"]
    assert found == pytest.approx(losses["0 sdpa deepspeed"], rel=1e-4)
    assert len(set(found)) == 3


def test_compiled_blocks_learn_the_same(losses: dict[str, list[float]]) -> None:
    assert losses["compiled"] == pytest.approx(losses["2 sdpa flat"], rel=1e-4)


def test_blocks_that_are_computed_twice_learn_the_same(losses: dict[str, list[float]]) -> None:
    assert losses["checkpointed"] == pytest.approx(losses["2 sdpa flat"], rel=1e-5)


def test_engines_agree_in_bf16(losses: dict[str, list[float]]) -> None:
    assert losses["bf16 flat"] == pytest.approx(losses["bf16 deepspeed"], rel=0.02)


def _run(rank: int, message: dict[str, Any], until: int, store: str) -> None:
    from components.training import loop

    _group(rank, store)
    torch.use_deterministic_algorithms(True)
    whole = loop.ahead
    loop.ahead = lambda make, steps, readers: whole(make, range(steps.start, until), readers)  # killed after it
    loop.train(from_message(message))
    dist.destroy_process_group()


@pytest.mark.parametrize("zero", [2, 3])
def test_run_that_was_killed_ends_with_the_same_bits(
    zero: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from components.training.checkpoint import CHECKPOINTS, checkpoints

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    params = prepare_workspace(tmp_path, pretrain__epochs=2, training__workers=1)
    changed = {"use_gpu": not ON_CPU, "zero_stage": zero}
    params = params.model_copy(update={"training": params.training.model_copy(update=changed)})
    made = stage.make_job("pretrain", params, params.pretrain, None, None)

    def run(job: Job, *stops: int) -> dict[str, torch.Tensor]:
        job.folder.mkdir(parents=True)
        for number, until in enumerate(stops):
            store = str(tmp_path / f"store-{job.folder.name}-{number}")
            mp.spawn(_run, (to_message(job), until, store), nprocs=1)  # pyright: ignore
        newest = checkpoints(job.folder / CHECKPOINTS)[-1]
        files = sorted(newest.glob("*.safetensors"))
        return {f"{file.name} {name}": tensor for file in files for name, tensor in load_file(file).items()}

    calm = run(replace(made, folder=tmp_path / "calm"), STEPS)
    killed = run(replace(made, folder=tmp_path / "killed"), 3, STEPS)  # after a checkpoint at 2: a step is done again
    assert calm.keys() == killed.keys()
    assert all(torch.equal(calm[name], killed[name]) for name in calm)
