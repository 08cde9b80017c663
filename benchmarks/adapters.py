"""How much slower than PEFT's LoRA is each method, in the same whole model? Prints a table, writes JSON.

    OMP_NUM_THREADS=1 python -m benchmarks.adapters --width 1024 --rounds 7

A round runs LoRA and a method next to each other, in alternating order, on the same frozen weights; a figure is the
median over rounds of (method / LoRA beside it), with the quartiles. The row `lora again` is a second LoRA held against
the first: how far it is from 1, and its quartiles from each other, is the noise that the other rows are judged by.
CPU seconds of this process are counted, so that neighbours on the machine weigh less. What is measured is put into the
JSON beside what it holds already: the whole can be measured in slices.
Goals: Dual-LoRA 1.03, Dual-LoRA + VCE 1.05 (whole LLaVA forward), LoRA-MoE with 4 experts 1.10; on GPUs the paper
(figure 8) has 1.12, 1.16 and 1.59. Also counted: operator dispatches that an adapted layer adds, what a GPU pays for
when batches are small; goal for Dual-LoRA: LoRA's + 4.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    StaticCache,
)

from benchmarks.machine import processor
from components.adapters import method
from components.model.connector import Connector
from components.model.visual_cue import VisualCueEnhancement

RANK = 64
BLOCKS = 6
TOKENS = 640  # 576 of an image and 64 of text
DECODED = 8  # steps per measurement
CONTROL = "lora again"
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {}),
    CONTROL: ("lora", {}),
    "dual_lora": ("dual_lora", {}),
    "lora_moe softmax 2": ("lora_moe", {"num_experts": 2}),
    "lora_moe softmax 4": ("lora_moe", {"num_experts": 4}),
    "lora_moe top-2 of 4": ("lora_moe", {"num_experts": 4, "routing": "top_k", "top_k": 2}),
    "rode 8 8 16 32": ("rode", {"ranks": [8, 8, 16, 32]}),
}
TARGETS: dict[str, Any] = {
    "qv": r".*(q_proj|v_proj)",
    "all-linear": r".*layers\.\d+\..*(q|k|v|o|gate|up|down)_proj",
}
VISION_BLOCKS = 24  # ViT-L/14-336, the paper's encoder
LEVELS = [-2, -8, -14, -20]


class CountDispatches(TorchDispatchMode):
    """Counts the operators that reach the backend; views count too."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def adapt(model: nn.Module, kind: str, settings: dict[str, Any], targets: Any) -> nn.Module:
    config = method(kind)(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.05, target_modules=targets, **settings)  # type: ignore[call-arg]
    return get_peft_model(model, config)  # type: ignore[arg-type]


def llama_config(width: int) -> LlamaConfig:
    """Llama's proportions: heads of 128, an MLP of 43/16 of the width."""
    return LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 43 // 16,
        num_hidden_layers=BLOCKS,
        num_attention_heads=width // 128,
        vocab_size=1000,
    )


def ratios(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, Any]]:
    """Pairs of the first and each other run, `rounds` of each; medians of seconds and of the ratio within a pair, with
    the ratio's quartiles.
    """
    (reference, first), *others = runs.items()
    for run in runs.values():
        run()
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in others}
    for turn in range(rounds):
        for name, run in others:
            taken = {run: _seconds(run) for run in ((first, run) if turn % 2 else (run, first))}
            pairs[name].append((taken[first], taken[run]))
    seconds = statistics.median(pair[0] for measured in pairs.values() for pair in measured)
    return {reference: {"seconds": seconds, "ratio": 1.0, "rounds": rounds * len(others)}} | {
        name: {
            "seconds": statistics.median(pair[1] for pair in measured),
            "ratio": statistics.median(own / base for base, own in measured),
            "quartiles": np.quantile([own / base for base, own in measured], [0.25, 0.75]).tolist(),
            "rounds": rounds,
        }
        for name, measured in pairs.items()
    }


def _seconds(run: Callable[[], Any]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def language_model(
    width: int, targets: str, phases: list[str], names: list[str], rounds: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each phase with its rows, as it is measured."""
    torch.manual_seed(0)
    config = llama_config(width)
    weights = LlamaForCausalLM(config).state_dict()
    models: dict[str, nn.Module] = {}
    for name in names:
        kind, settings = METHODS[name]
        model = LlamaForCausalLM(config)
        model.load_state_dict(weights, assign=True)  # the same tensors for all: the same memory, the same caches
        models[name] = adapt(model, kind, settings, TARGETS[targets])
    ids = torch.randint(0, 1000, (1, TOKENS))

    def prefill(model: nn.Module) -> None:
        with torch.no_grad():
            model.eval()(input_ids=ids, logits_to_keep=1)

    def train(model: nn.Module) -> None:
        model.train()(input_ids=ids, labels=ids).loss.backward()
        model.zero_grad()

    def decode(model: nn.Module) -> Callable[[], None]:
        cache = StaticCache(config=config, max_cache_len=TOKENS + DECODED + 1)  # a growing one copies itself each step
        with torch.no_grad():
            model.eval()(input_ids=ids, past_key_values=cache, logits_to_keep=1)

        def run() -> None:
            model.eval()
            with torch.no_grad():
                for _ in range(DECODED):
                    model(input_ids=ids[:, :1], past_key_values=cache)
                for layer in cache.layers:
                    layer.cumulative_length.fill_(TOKENS)  # type: ignore[union-attr]

        return run

    make = {"prefill": lambda m: lambda: prefill(m), "train": lambda m: lambda: train(m), "decode": decode}
    for phase in phases:
        yield phase, ratios({n: make[phase](m) for n, m in models.items()}, rounds)


def whole_llava(width: int, names: list[str], rounds: int) -> dict[str, Any]:
    """One image and 64 tokens of text through everything; "dual_lora + vce" has VCE before its projector."""
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=VISION_BLOCKS,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    config = LlavaConfig(vision_config=vision, text_config=llama_config(width), image_token_index=999)
    torch.manual_seed(0)
    weights = LlavaForConditionalGeneration(config).state_dict()
    models = {}
    for name in [*names, "dual_lora + vce"]:
        model = LlavaForConditionalGeneration(deepcopy(config))  # each model changes its own
        model.load_state_dict(weights, assign=True)
        with_vce = name.endswith("vce")
        vce = VisualCueEnhancement(1024, len(LEVELS)) if with_vce else None
        model.model.multi_modal_projector = Connector(model.model.multi_modal_projector, vce)  # type: ignore[assignment]
        model.config.vision_feature_layer = LEVELS if with_vce else LEVELS[0]
        kind, settings = METHODS[name.removesuffix(" + vce")]
        models[name] = adapt(model, kind, settings, r".*language_model.*(q_proj|v_proj)").eval()
    ids = torch.cat([torch.full((1, 576), 999), torch.randint(0, 999, (1, 64))], dim=1)
    pixels = torch.randn(1, 3, 336, 336)

    def run(model: nn.Module) -> Callable[[], None]:
        def forward() -> None:
            with torch.no_grad():
                model(input_ids=ids, pixel_values=pixels, logits_to_keep=1)

        return forward

    return ratios({n: run(m) for n, m in models.items()}, rounds)


def dispatches() -> dict[str, int]:
    """Operators that one adapted layer adds to its frozen linear, forward, in evaluation."""
    counts = {}
    for name, (kind, settings) in METHODS.items():
        if name == CONTROL:
            continue
        model = adapt(nn.ModuleDict({"q_proj": nn.Linear(128, 128)}), kind, settings, ["q_proj"]).eval()
        layer = model.get_submodule("base_model.model.q_proj")
        taken = []
        for module in (layer, layer.get_submodule("base_layer")):
            with torch.no_grad(), CountDispatches() as counter:
                module(torch.zeros(1, 1, 128))
            taken.append(counter.count)
        counts[name] = taken[0] - taken[1]
    return counts


def table(results: dict[str, Any]) -> str:
    lines = [f"{'setting':<28}{'method':<22}{'seconds':>9}{'vs LoRA':>9}{'quartiles':>17}"]
    for setting, phases in results["ratios"].items():
        for phase, methods in phases.items():
            for name, row in methods.items():
                between = " to ".join(f"{quartile:.3f}" for quartile in row.get("quartiles", ()))
                figures = f"{row['seconds']:>9.3f}{row['ratio']:>9.3f}{between:>17}"
                lines.append(f"{setting + ' ' + phase:<28}{name:<22}{figures}")
    lines += ["", "operator dispatches that an adapted layer adds"]
    lines += [f"  {name:<26}{count:>4}" for name, count in results["dispatches"].items()]
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "date": dt.date.today().isoformat(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--width", type=int, nargs="*", default=[1024])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--phases", nargs="*", default=["prefill", "decode", "train"])
    parser.add_argument("--targets", nargs="*", default=["qv", "all-linear"], choices=list(TARGETS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS), help="beside lora, twice")
    parser.add_argument("--llava", action=argparse.BooleanOptionalAction, default=True, help="the whole LLaVA too")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/adapters.json"))
    args = parser.parse_args()
    names = list(dict.fromkeys(["lora", CONTROL, *args.methods]))
    held = json.loads(args.output.read_text(encoding="utf-8")) if args.output.exists() else {"ratios": {}}
    results = {**held, **machine(), "rank": RANK, "blocks": BLOCKS, "tokens": TOKENS, "dispatches": dispatches()}
    args.output.parent.mkdir(parents=True, exist_ok=True)

    def keep(setting: str, phase: str, rows: dict[str, Any]) -> None:
        phases = results["ratios"].setdefault(setting, {})
        phases[phase] = phases.get(phase, {}) | rows
        args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{setting} {phase}: measured", flush=True)

    for width in args.width:
        for targets in args.targets:
            for phase, rows in language_model(width, targets, args.phases, names, args.rounds):
                keep(f"{width} {targets}", phase, rows)
        if args.llava:
            keep(f"{width} llava", "prefill", whole_llava(width, names, args.rounds))
    print(table(results))


if __name__ == "__main__":
    main()
