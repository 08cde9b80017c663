"""Is the memory that `lea plan` foretells the memory that training takes? Prints a table, writes JSON.

    OMP_NUM_THREADS=1 python -m benchmarks.memory

Each case is a small LLaVA with adapter and VCE. Modelled: components.costs, without weights. Measured: micro-batches of
the real loss, forward and backward, and steps of AdamW on the CPU, every tensor alive counted; `allocator` is the peak
that torch's own CPU allocator reports for a further micro-batch (it sees what kernels use for themselves, too), beside
the modelled activations. One process, ZeRO 0: what a stage shares out over N workers, and DeepSpeed's buffers, are
arithmetic (components/costs/memory.py) and are not measured here.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import LlavaForConditionalGeneration

from components.costs.dry_run import Shape, dry_run, inputs
from components.costs.memory import gpu_memory
from components.costs.peak_memory import PeakMemory
from components.costs.skeleton import base_config, parameters_by_part, skeleton
from components.model.assemble import build, precision_of, recompute_blocks
from components.model.base import Base
from components.model.vision_tower import stop_after_last_level
from components.params import Params, load_params, validate_params
from components.training.loss import SupervisedLoss

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Case:
    width: int = 64
    blocks: int = 2
    sequences: int = 2
    tokens: int = 96
    kind: str = "dual_lora"
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    precision: str = "fp32"
    recompute: bool = False  # training.activation_checkpointing

    @property
    def name(self) -> str:
        where = "all" if len(self.targets) > 2 else "q,v"
        more = ", recomputed" if self.recompute else ""
        sizes = f"{self.width} x {self.blocks}, {self.sequences} x {self.tokens}"
        return f"{sizes}, {self.kind} {where}, {self.precision}{more}"


CASES = [
    *(Case(kind=kind) for kind in ("lora", "dual_lora", "lora_moe", "rode")),
    Case(targets=tuple(ALL_LINEAR)),
    Case(width=128, blocks=4),
    Case(width=256, blocks=6, sequences=1),
    Case(blocks=4, sequences=4, tokens=256),
    Case(sequences=8, tokens=64),
    Case(width=128, blocks=4, precision="bf16"),
    Case(width=128, blocks=6, sequences=4, tokens=256, recompute=True),
]


def settings(case: Case, params: Params) -> Params:
    """The committed settings with the case in them."""
    tree = params.model_dump()
    tree["base"]["tiny"]["language"] |= {"width": case.width, "layers": case.blocks, "heads": 4}
    tree["adapter"] |= {"kind": case.kind, "targets": list(case.targets)}
    tree["training"] |= {"precision": case.precision, "workers": 1, "activation_checkpointing": case.recompute}
    return validate_params(tree, case.name)


def shape(case: Case) -> Shape:
    return Shape(case.sequences, case.tokens, case.sequences * 20, case.sequences)


def modelled(case: Case, params: Params) -> tuple[int, int]:
    """Bytes of a worker under ZeRO 0, by components.costs, and the activations among them."""
    model = skeleton(params, params.adapter)
    counted = parameters_by_part(model).values()
    trained = sum(number for number, is_trained in counted if is_trained)
    frozen = sum(number for number, is_trained in counted if not is_trained)
    activations = dry_run(model, shape(case)).activations
    memory = gpu_memory(frozen, trained, activations, params.training, stage=0, workers=1)
    # Plain AdamW, which is measured here, has moments in bf16 and no master copy.
    return memory.total - (8 * trained if case.precision == "bf16" else 0), activations


def measured(case: Case, params: Params) -> tuple[int, int]:
    """Peak bytes of a whole training step, and the allocator's peak of a micro-batch beyond what was there."""
    torch.manual_seed(0)
    base = Base(LlavaForConditionalGeneration(base_config(params)), None, None, {})
    model, _ = build(base, params.vce if params.vce.enabled else None, params.adapter)
    stop_after_last_level(model)
    model.to(precision_of(case.precision))  # pyright: ignore[reportArgumentType]
    if case.recompute:
        recompute_blocks(model)
    module = SupervisedLoss(model).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    batch, pixels = inputs(model, shape(case), torch.device("cpu"))
    given = [*batch.values(), *([] if pixels is None else [pixels])]

    def micro_batch() -> None:
        module(batch, pixels).backward()

    with PeakMemory(*model.parameters(), *model.buffers(), *given) as memory:
        outside = sum(tensor.untyped_storage().nbytes() for tensor in [*given, *model.buffers()])
        for _ in range(2):  # so that a micro-batch meets the gradients and moments of an earlier step
            micro_batch()
            optimizer.step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as allocator:
        micro_batch()
    alive = peak = 0
    for event in allocator.profiler.kineto_results.events():  # pyright: ignore
        if event.name() == "[memory]":
            alive += event.nbytes()  # pyright: ignore
            peak = max(peak, alive)
    return memory.peak - outside, peak


def run(case: Case, params: Params) -> dict[str, Any]:
    own = settings(case, params)
    (total, activations), (real, allocated) = modelled(case, own), measured(case, own)
    return {
        "case": case.name,
        "modelled": total,
        "measured": real,
        "ratio": total / real,
        "activations": activations,
        "allocated": allocated,
        "activations_ratio": activations / allocated,
    }


def table(rows: list[dict[str, Any]]) -> str:
    heads = f"{'MiB':>52}{'modelled':>10}{'measured':>10}{'ratio':>8}{'activations':>13}{'allocator':>11}{'ratio':>8}"
    lines = [heads]
    for row in rows:
        mib = {key: value / 2**20 for key, value in row.items() if isinstance(value, int)}
        lines.append(
            f"{row['case']:>52}{mib['modelled']:>10.2f}{mib['measured']:>10.2f}{row['ratio']:>8.3f}"
            f"{mib['activations']:>13.2f}{mib['allocated']:>11.2f}{row['activations_ratio']:>8.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/memory.json"))
    output = parser.parse_args().output
    params = load_params()
    rows = [run(case, params) for case in CASES]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"torch": torch.__version__, "cases": rows}, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
