"""Several trials on one card: side by side in one step, and as processes beside each other (tune.gpu_per_worker).

Adapters that train in one process, their samples in the same step (mLoRA, LoRAFusion), can gain only where a card is
not full: two trials of n samples a step take no less than one of 2 n, so the bound is 2 t(n) / t(2 n). Processes of
their own share nothing but the card. Both are measured with Dual-LoRA + VCE on q and v, rank 64, at 7B and with a small
model, where the host launches kernels more slowly than the card runs them.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from transformers import LlavaForConditionalGeneration

from benchmarks.on_gpu.clock import Bench
from benchmarks.on_gpu.models import NARROW, adapted, base, of_config, pixels, settings
from benchmarks.on_gpu.training import BATCHES, Ours, drawn, one_process
from components.costs.skeleton import llava_config
from components.params import Params

# Sizes of a CLIP-B and of a language model of 135 million parameters.
SMALL: tuple[dict[str, Any], dict[str, Any]] = (
    {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 16,
    },
    {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49153,
    },
)
SIZES = {"small": (4, 16), "7B": (1, 4)}  # images a step, each with its tasks of UniFood
WARM_UP_S, MEASURED_S, LIMIT_S = 2.0, 5.0, 80


def one_step(bench: Bench, size: str) -> None:
    """The bound for two trials in one process."""
    one_process(bench)
    whole, params = _sized(bench, size)
    runner = Ours(bench, params, adapted(whole, params, "dual_lora", vce=True, regime=NARROW))
    for images in SIZES[size]:
        runs = {str(number): _stepping(bench, runner, whole, number) for number in (images, 2 * images)}
        alone, both = bench.rotate(runs, warm_up=BATCHES).values()
        label = f"{size}, {images} images"
        bench.emit_ratio(f"two trials in one process gain at most, {label}", [2 * one for one in alone], both)
        bench.emit_each(f"a trial's step alone, {label}", alone, "ms", 1000)


def processes(bench: Bench, size: str) -> None:
    """Steps a second of two trials beside each other, over those of the first alone, while the other waits."""
    images = SIZES[size][0]
    context = multiprocessing.get_context("spawn")
    turns, rates = context.Barrier(2), context.Queue()
    trial = (bench, size, images, turns, rates)
    children = [context.Process(target=_trial, args=(*trial, is_first)) for is_first in (True, False)]
    for child in children:
        child.start()
    alone, *both = (rates.get(timeout=LIMIT_S) for _ in range(3))
    for child in children:
        child.join()
    bench.emit(f"two trials as processes on one card gain, {size}, {images} images", sum(both) / alone)


def _trial(bench: Bench, size: str, images: int, turns: Any, rates: Any, is_first: bool) -> None:
    """Steps a second: of the first alone, then of each while both run."""
    one_process(bench)
    whole, params = _sized(bench, size)
    step = _stepping(bench, Ours(bench, params, adapted(whole, params, "dual_lora", vce=True)), whole, images)
    for _ in range(BATCHES):
        step()
    turns.wait(LIMIT_S)
    if is_first:
        rates.put(_steps_in(bench, step, MEASURED_S))
    turns.wait(LIMIT_S)
    _steps_in(bench, step, WARM_UP_S)
    rates.put(_steps_in(bench, step, MEASURED_S))
    _steps_in(bench, step, WARM_UP_S)  # until the slower has measured


def _steps_in(bench: Bench, step: Callable[[], None], seconds: float) -> float:
    """Steps a second."""
    bench.settle()
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < (0.2 if bench.tiny else seconds):
        step()
        bench.settle()
        steps += 1
    return steps / (time.perf_counter() - started)


def _stepping(bench: Bench, runner: Ours, whole: Any, images: int) -> Callable[[], None]:
    batches = [drawn("unifood", turn, images, whole) for turn in range(BATCHES)]
    seen = pixels(bench, whole, images)
    turn = count()
    return lambda: runner.step(batches[next(turn) % BATCHES], seen)


def _sized(bench: Bench, size: str) -> tuple[LlavaForConditionalGeneration, Params]:
    params = settings(bench)
    if size == "7B" or bench.tiny:
        return base(bench, params), params
    levels = params.vce.model_copy(update={"levels": [-2, -4, -6, -8]})  # of 12
    return of_config(bench, llava_config(*SMALL)), params.model_copy(update={"vce": levels})
