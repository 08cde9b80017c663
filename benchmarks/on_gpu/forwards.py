"""Phases without gradients: prefill and decode of each method, the whole LLaVA, VCE alone, steps without a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.on_gpu.clock import Bench
from benchmarks.on_gpu.models import METHODS, WIDE, adapted, base, pixels, settings, text
from components.adapters import fast
from components.evaluation.inference.cache import Prefilled, roomy_cache
from components.evaluation.inference.stepped import SteppedDecoding, attention_without_plans

STEPS = 8  # tokens of a measurement
NO_STOP = frozenset({2})


def prefill(bench: Bench) -> None:
    """640 tokens of text through the language model, batches of 1 and 8."""
    params = settings(bench)
    whole = base(bench, params)
    models = {name: adapted(whole, params, name).eval() for name in METHODS}
    for rows in (1, 8):
        ids = text(bench, whole, rows, 64 if bench.tiny else 640)

        def reading(model: Any, ids: torch.Tensor = ids) -> Callable[[], Any]:
            return lambda: _read(model, ids)

        taken = bench.rotate({name: reading(model) for name, model in models.items()})
        bench.emit_each(f"prefill lora, batch {rows}", taken["lora"], "s")
        for name in METHODS:
            if name != "lora":
                bench.emit_ratio(f"prefill {name} / lora, batch {rows}", taken[name], taken["lora"])


def decode(bench: Bench) -> None:
    """Single tokens behind 640, as answering decodes on GPUs: replayed from a CUDA graph.

    q and v, then Dual-LoRA on all linear layers.
    """
    params = settings(bench)
    whole = base(bench, params)
    models = {name: adapted(whole, params, name).eval() for name in METHODS}
    for rows in (1, 32):
        taken = bench.rotate({name: decoding(bench, model, rows) for name, model in models.items()})
        bench.emit_each(f"decode lora, batch {rows}, a token", taken["lora"], "ms", 1000 / STEPS)
        for name in METHODS:
            if name != "lora":
                bench.emit_ratio(f"decode {name} / lora, batch {rows}", taken[name], taken["lora"])
    ways = {
        "fused": decoding(bench, models["dual_lora"], 1),
        "plain": _plainly(decoding(bench, models["dual_lora"], 1)),
    }
    taken = bench.rotate(ways)
    bench.emit_ratio("decode dual_lora: one kernel / plain, batch 1", taken["fused"], taken["plain"])
    del models
    wide = {name: adapted(whole, params, name, regime=WIDE).eval() for name in ("lora", "dual_lora")}
    taken = bench.rotate({name: decoding(bench, model, 1) for name, model in wide.items()})
    bench.emit_ratio("decode dual_lora / lora, all linear r128, batch 1", taken["dual_lora"], taken["lora"])


def _plainly(run: Callable[[], None]) -> Callable[[], None]:
    """The same with the plain twins of the adapters' kernels."""

    def plain() -> None:
        with patch.object(fast, "_kernels", return_value=None):
            run()

    return plain


def launched(bench: Bench) -> None:
    """The same steps without a graph, every kernel launched from Python: what a model pays that none can hold."""
    params = settings(bench)
    whole = base(bench, params)
    models = {name: adapted(whole, params, name).eval() for name in ("lora", "dual_lora")}
    for rows in (1, 12):
        taken = bench.rotate({name: decoding(bench, model, rows, captured=False) for name, model in models.items()})
        bench.emit_each(f"decode without a graph, lora, batch {rows}, a token", taken["lora"], "ms", 1000 / STEPS)
        bench.emit_ratio(f"decode without a graph, dual_lora / lora, batch {rows}", taken["dual_lora"], taken["lora"])


def decoding(bench: Bench, model: Any, rows: int, captured: bool = True) -> Callable[[], None]:
    """STEPS tokens, always behind the same prompt."""
    ids = text(bench, model, rows, 64 if bench.tiny else 640)
    with torch.inference_mode(), attention_without_plans(bench.device):
        output = model(input_ids=ids, past_key_values=roomy_cache(model.config), use_cache=True, logits_to_keep=1)
        read = Prefilled(output.past_key_values, torch.ones_like(ids), output.logits[:, -1], None)
        most = STEPS * (2 * bench.rounds + 8)
        state = SteppedDecoding(model, read, NO_STOP, most, captured=captured and bench.device.type == "cuda")

    def run() -> None:
        with torch.inference_mode(), attention_without_plans(bench.device):
            for _ in range(STEPS):
                if state.is_full:
                    state.grow()
                state.step()

    return run


def llava(bench: Bench) -> None:
    """An image and 64 tokens of text through everything; VCE before the projector or not."""
    params = settings(bench)
    whole = base(bench, params)
    models = {name: adapted(whole, params, name).eval() for name in ("lora", "dual_lora")}
    models["dual_lora + vce"] = adapted(whole, params, "dual_lora", vce=True).eval()
    places = whole.config.image_seq_length
    for rows in (1, 8):
        words, seen = text(bench, whole, rows, 64), pixels(bench, whole, rows)
        image = torch.full((rows, places), whole.config.image_token_id, device=bench.device)
        ids = torch.cat([image, words], dim=1)

        def reading(model: Any, ids: torch.Tensor = ids, seen: torch.Tensor = seen) -> Callable[[], Any]:
            return lambda: _read(model, ids, pixel_values=seen)

        taken = bench.rotate({name: reading(model) for name, model in models.items()})
        for name in ("dual_lora", "dual_lora + vce"):
            bench.emit_ratio(f"llava prefill {name} / lora, batch {rows}", taken[name], taken["lora"])


def cue(bench: Bench) -> None:
    """VCE alone at 8 images: forward, and forward with backward."""
    params = settings(bench)
    model = adapted(base(bench, params), params, "none", vce=True)
    vce = model.model.multi_modal_projector.vce
    patches = model.config.image_seq_length
    levels = [
        torch.randn(8, patches, vce.width, device=bench.device, dtype=bench.dtype, requires_grad=True)
        for _ in range(vce.num_levels)
    ]
    grid = (round(patches**0.5), round(patches**0.5))

    def forward() -> None:
        with torch.no_grad():
            vce(levels, grid)

    taken = bench.rotate({"forward": forward, "both": lambda: vce(levels, grid).float().sum().backward()})
    bench.emit_each("vce forward, 8 images", taken["forward"], "ms", 1000)
    bench.emit_each("vce forward and backward, 8 images", taken["both"], "ms", 1000)


def _read(model: Any, ids: torch.Tensor, **seen: torch.Tensor) -> None:
    with torch.inference_mode():
        model(input_ids=ids, logits_to_keep=1, use_cache=False, **seen)
