"""Phases with gradients: our step against a lean hand-written one, the two regimes, the plan against the peak.

The peer: a row for each sample with its own image, padded to the longest, everything in bf16, fused AdamW, gradients
clipped by torch: what a careful person writes for one GPU, without packing, without a check of the gradients and with
transformers' own blocks.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.on_gpu.clock import Bench
from benchmarks.on_gpu.models import NARROW, WIDE, adapted, adapter, base, pixels, plain, settings
from benchmarks.training import Unit, flickr30k, sample, unifood, words
from components.batching.collator import Batch
from components.batching.conversation import IGNORED
from components.batching.packing import LENGTHS_ON_GPUS, pack, pad
from components.costs.dry_run import Shape, dry_run
from components.costs.memory import gpu_memory
from components.costs.skeleton import at_full_depth
from components.params import Params
from components.training.engine import start_engine
from components.training.guard import Guard
from components.training.loss import SupervisedLoss
from components.training.step import train_step

BATCHES = 4  # different ones, so that lengths change from step to step
LARGE_CARD = 100 * 2**30  # bytes from which batches are twice as large


def one_question(chance: random.Random, images: int, patches: int) -> list[Unit]:
    """An image has one question, with answers of any length."""
    lengths = [(chance.randint(5, 40), chance.choice((2, 5, 20, 80, 200))) for _ in range(images)]
    return [[sample(chance, words(chance, asked), said, patches)] for asked, said in lengths]


SHAPES: dict[str, Callable[[random.Random, int, int], list[Unit]]] = {
    "unifood": unifood,
    "flickr30k": flickr30k,
    "one question": one_question,
}


def shapes(bench: Bench, name: str) -> None:
    """Samples a second: LoRA without VCE against the peer, and Dual-LoRA with VCE."""
    one_process(bench)
    params = settings(bench)
    whole = base(bench, params)
    images = _images(bench) * 2
    if name != "one question":  # the peer's rows are several times as many as the images
        images //= 4 if name == "flickr30k" else 2
    batches = [drawn(name, turn, images, whole) for turn in range(BATCHES)]
    seen = pixels(bench, whole, images)
    runners: dict[str, Any] = {
        "ours": Ours(bench, params, adapted(whole, params, "lora")),
        "peer": Peer(bench, plain(adapted(whole, params, "lora"))),
        "dual_lora + vce": Ours(bench, params, adapted(whole, params, "dual_lora", vce=True)),
    }
    turns = dict.fromkeys(runners, 0)

    def stepping(runner: str) -> Callable[[], None]:
        def run() -> None:
            runners[runner].step(batches[turns[runner] % BATCHES], seen)
            turns[runner] += 1

        return run

    taken = bench.rotate({name: stepping(name) for name in runners}, warm_up=BATCHES)
    samples = sum(map(len, batches[0]))
    bench.emit_ratio(f"training {name}: peer's seconds / ours", taken["peer"], taken["ours"])
    for runner in runners:
        bench.emit_each(f"training {name}: {runner}", taken[runner], "samples/s", samples)
    peaks = {runner: bench.peak_bytes(stepping(runner)) for runner in ("ours", "peer")}
    share = peaks["ours"] / peaks["peer"] if peaks["ours"] and peaks["peer"] else None
    bench.emit(f"training {name}: our peak memory / peer's", share)


def regimes(bench: Bench) -> None:
    """Dual-LoRA + VCE on q and v at rank 64, and on all linear layers at rank 128; the plan's memory against the peak.

    One model is in memory at a time, so that the peak is its own.
    """
    one_process(bench)
    params = settings(bench)
    whole = base(bench, params)
    images = _images(bench)
    batches = [drawn("unifood", turn, images, whole) for turn in range(BATCHES)]
    seen = pixels(bench, whole, images)
    for label, regime in (("q,v r64", NARROW), ("all linear r128", WIDE)):
        runner = Ours(bench, params, adapted(whole, params, "dual_lora", vce=True, regime=regime))
        turn = iter(range(10**6))

        def step(runner: Ours = runner, turn: Any = turn) -> None:
            runner.step(batches[next(turn) % BATCHES], seen)

        taken = bench.rotate({label: step}, warm_up=BATCHES)[label]
        bench.emit_each(f"training {label}", taken, "samples/s", sum(map(len, batches[0])))
        bench.emit_each(f"training {label}, tokens", taken, "tokens/s", sum(len(pack(u).ids) for u in batches[0]))
        peak = bench.peak_bytes(lambda step=step: [step() for _ in range(BATCHES)])
        longest = max((runner.batch(units, seen) for units in batches), key=lambda b: b.tokens["ids"].numel())
        planned = _planned(params, regime, longest)
        bench.emit(f"lea plan / measured peak, {label}", planned / peak if peak else None)
        reserved = torch.cuda.max_memory_reserved() if peak else None
        bench.emit(f"reserved / peak memory, {label}", reserved / peak if reserved and peak else None)
        del runner, step
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def blocks(bench: Bench) -> None:
    """transformers' own blocks, our kernels for their small work, and training.compile_blocks; the compiler's time is
    not in it.
    """
    one_process(bench)
    params = settings(bench)
    whole = base(bench, params)
    images = _images(bench)
    batches = [drawn("unifood", turn, images, whole) for turn in range(BATCHES)]
    seen = pixels(bench, whole, images)
    runs: dict[str, Callable[[], None]] = {}
    for name in ("plain", "fused", "compiled"):
        training = params.training.model_copy(update={"compile_blocks": name == "compiled"})
        model = adapted(whole, params, "dual_lora")
        model = plain(model) if name == "plain" else model
        runner = Ours(bench, params.model_copy(update={"training": training}), model)
        turn = iter(range(10**6))
        runs[name] = lambda runner=runner, turn=turn: runner.step(batches[next(turn) % BATCHES], seen)
    taken = bench.rotate(runs, warm_up=BATCHES)
    for name in ("fused", "compiled"):
        bench.emit_ratio(f"training unifood: plain blocks' seconds / {name}", taken["plain"], taken[name])
        bench.emit_each(f"training unifood: {name} blocks", taken[name], "samples/s", sum(map(len, batches[0])))


class Ours:
    """Our engine on samples packed by image."""

    def __init__(self, bench: Bench, params: Params, model: Any) -> None:
        self._on_gpu = bench.device.type == "cuda"
        module = SupervisedLoss(model.train())
        self.engine = start_engine(module, params.finetune, params.training, 10**6, 1, 1)

    def batch(self, units: list[Unit], seen: torch.Tensor) -> Batch:
        has_image = torch.ones(len(units), dtype=torch.bool)
        multiple = LENGTHS_ON_GPUS if self._on_gpu else 1
        tokens = {**pad([pack(unit) for unit in units], 0, multiple), "has_image": has_image}
        return Batch(tokens, seen, sum(map(len, units)), num_refused=0)

    def step(self, units: list[Unit], seen: torch.Tensor) -> None:
        train_step(self.engine, [self.batch(units, seen)], Guard(0))


class Peer:
    """Padded rows, an image each."""

    def __init__(self, bench: Bench, model: Any) -> None:
        self.model, self.device = model.train(), bench.device
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, fused=True)

    def step(self, units: list[Unit], seen: torch.Tensor) -> None:
        rows = [one for unit in units for one in unit]
        longest = max(len(row.ids) for row in rows)
        ids, labels, mask = (torch.full((len(rows), longest), filler) for filler in (0, IGNORED, 0))
        for place, row in enumerate(rows):
            end = len(row.ids)
            ids[place, :end], labels[place, :end] = torch.tensor(row.ids), torch.tensor(row.labels)
            mask[place, :end] = 1
        images = torch.repeat_interleave(seen, torch.tensor([len(unit) for unit in units], device=seen.device), dim=0)
        to = self.device
        output = self.model(
            input_ids=ids.to(to), attention_mask=mask.to(to), labels=labels.to(to), pixel_values=images, use_cache=False
        )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _images(bench: Bench) -> int:
    if bench.tiny:
        return 2
    return 8 if torch.cuda.get_device_properties(0).total_memory > LARGE_CARD else 4


def drawn(shape: str, seed: int, images: int, whole: Any) -> list[Unit]:
    """The image's token is the base's; words are from its vocabulary."""
    units = SHAPES[shape](random.Random(seed), images, whole.config.image_seq_length)
    image, most = whole.config.image_token_id, whole.config.text_config.vocab_size - 1

    def own(ids: list[int]) -> list[int]:
        return [image if token == 3 else token if token < 0 else token % most for token in ids]

    return [[type(one)(own(one.ids), own(one.labels)) for one in unit] for unit in units]


def _planned(params: Params, regime: tuple[int, list[str]], batch: Batch) -> int:
    """Bytes that `lea plan` counts for such a batch, without its allowance for the runtime."""
    sequences, tokens = batch.tokens["ids"].shape
    shape = Shape(sequences, tokens, batch.num_supervised, sequences)
    learnt = adapter(params, "dual_lora", regime)
    on_gpu = params.training.use_gpu

    def count(model: Any) -> list[int]:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in model.parameters()) - trained
        return [frozen, trained, dry_run(model, shape, on_gpu=on_gpu).activations]

    frozen, trained, activations = at_full_depth(params, learnt, count)
    training = params.training
    one_tensor = training.updates_one_tensor(training.zero_stage)
    stage = training.zero_stage
    memory = gpu_memory(frozen, trained, activations, training, stage, one_tensor=one_tensor, accumulates=False)
    return memory.total


def one_process(bench: Bench) -> None:
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    if bench.device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    backend = "nccl" if bench.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=0, world_size=1, store=dist.HashStore())  # pyright: ignore
