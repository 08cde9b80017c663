"""What the papers print about sizes and costs, and the formulas that give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from peft import get_peft_model
from torch import nn

from components.adapters import adapter_parameters, method
from components.costs.samples import PUBLISHED
from components.model.visual_cue import VisualCueEnhancement

MIB = 2**20
BF16 = 2  # bytes
RANKS = (32, 64, 128)


def llava_flops(text: int, visual: int, blocks: int, width: int) -> int:
    """Forward FLOPs of a language model with visual tokens: 24 (L+C) n h^2 + 4 (L+C)^2 n h (VLoRA, appendix A)."""
    tokens = text + visual
    return 24 * tokens * blocks * width**2 + 4 * tokens**2 * blocks * width


def vlora_flops(text: int, blocks: int, width: int, inserted: int, rank: int, *, training: bool) -> int:
    """Forward FLOPs with perceptual weights and no visual tokens.

    training: 24 C n h^2 + 4 C^2 n h + 24 k r h^2 + 12 C k r h + 14 C k h. For inference A B is merged into the weights
    first, and the last two terms become 12 k h^2. (Derived: the paper prints 12 C k h^2 for the fourth term, which
    would not give its own number.)
    """
    shared = llava_flops(text, 0, blocks, width) + 24 * inserted * rank * width**2
    if training:
        return shared + 12 * text * inserted * rank * width + 14 * text * inserted * width
    return shared + 12 * inserted * width**2


def adapter_bytes(kind: str, rank: int, width: int = 4096, blocks: int = 32) -> int:
    """Bytes in bf16 of an adapter on q and v of every block, without the LayerNorm's 2 r numbers per layer."""
    with torch.device("meta"):
        layer = nn.ModuleDict({"q_proj": nn.Linear(width, width, bias=False)})
        adapted = get_peft_model(layer, method(kind)(r=rank, target_modules=["q_proj"]))  # type: ignore[arg-type,call-arg]
    matrices = [p.numel() for p in adapter_parameters(adapted).values() if p.dim() > 1]
    return sum(matrices) * 2 * blocks * BF16


def vce_bytes() -> int:
    """Bytes in bf16 of VCE on CLIP ViT-L/14-336 with four levels."""
    with torch.device("meta"):
        vce = VisualCueEnhancement(1024, 4, num_heads=16, num_points=4)
    return sum(p.numel() for p in vce.parameters()) * BF16


@dataclass(frozen=True)
class Comparison:
    what: str
    ours: float
    published: float | None
    unit: str
    digits: int  # that are printed
    source: str


# LLaVA's README: hours of LLaVA-1.5 on 8 A100s. Both stages recompute activations; stage 1 needs no gradients of
# weights. Passes: forwards of the language model, a backward pass counts one for inputs and one for weights.
LLAVA_GPUS = 8
LLAVA_HOURS = (
    # model, what, samples, passes, hours
    ("7b", "stage 1 on 558K", PUBLISHED["llava_558k"], 3, 3.5),
    ("7b", "stage 2 on mix665k, all weights", PUBLISHED["mix665k"], 4, 10.0),
    ("13b", "stage 1 on 558K", PUBLISHED["llava_558k"], 3, 5.5),
    ("13b", "stage 2 on mix665k, all weights", PUBLISHED["mix665k"], 4, 20.0),
)


def hours_of_llava(language_flops: Mapping[str, int], text: int, rate: float) -> list[Comparison]:
    """Hours of LLaVA's own training by the arithmetic of these plans, beside the hours that its authors give.

    language_flops: forward of the language model of "7b" and "13b", of one sample with its image and `text` tokens;
    rate: FLOPs per second that each GPU sustains.
    """
    vision = llava_flops(0, 577, 24, 1024)  # CLIP ViT-L/14-336, forward
    rows = []
    for model, what, samples, passes, published in LLAVA_HOURS:
        each = vision + passes * language_flops[model]
        hours = samples * each / (rate * LLAVA_GPUS) / 3600
        name = f"LLaVA-1.5-{model.upper()}, {what}, {text} text tokens, {LLAVA_GPUS} A100s"
        rows.append(Comparison(name, hours, published, "hours", 1, "LLaVA's README"))
    return rows


def comparisons(llava_parameters: int) -> list[Comparison]:
    """Our numbers beside the published ones; `llava_parameters`: of LLaVA-1.5-7B as it is built here."""
    rows = [
        Comparison(f"{name} on q, v, rank {rank}", adapter_bytes(kind, rank) / MIB, size, "MiB", 0, source)
        for kind, name, sizes, source in (
            ("lora", "LoRA", (32, 64, 128), "Dual-LoRA, appendix Table 2"),
            ("dual_lora", "Dual-LoRA", (48, 96, 192), "Dual-LoRA, appendix Table 2"),
        )
        for rank, size in zip(RANKS, sizes, strict=True)
    ]
    rows.append(Comparison("VCE", vce_bytes() / MIB, 5.52, "MiB", 2, "Dual-LoRA, section 3.3"))
    rows.append(
        Comparison("LLaVA-1.5-7B", llava_parameters, 7_063_427_072, "parameters", 0, "llava-hf/llava-1.5-7b-hf")
    )
    for visual, flops in ((576, 8027), (256, 3754), (32, 827)):
        ours = llava_flops(32, visual, 32, 4096) / 1e9
        rows.append(Comparison(f"LLM, 32 text + {visual} visual tokens", ours, flops, "GFLOPs", 1, "VLoRA, Table 1"))
    for name, training, flops in (("training", True, 619), ("inference (merged first)", False, None)):
        ours = vlora_flops(32, 32, 4096, 8, 64, training=training) / 1e9
        source = "VLoRA, Table 1" if flops else "VLoRA, appendix A"
        rows.append(Comparison(f"VLoRA, 32 text tokens, {name}", ours, flops, "GFLOPs", 1, source))
    return rows
