"""LLaVA-1.5-7B's shape with random weights made on the device, and copies of it that share them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from benchmarks.on_gpu.clock import Bench
from components.costs.skeleton import base_config
from components.model.assemble import build
from components.model.base import Base
from components.model.blocks import unfuse
from components.model.vision_tower import stop_after_last_level
from components.params import Adapter, Params
from components.params.profiles import load

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NARROW, WIDE = (64, ["q_proj", "v_proj"]), (128, ALL_LINEAR)  # the two regimes of the paper
METHODS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "lora": {"kind": "lora"},
    "dual_lora": {"kind": "dual_lora"},
    "top-2 of 4": {"kind": "lora_moe"},
    "rode": {"kind": "rode"},
}


def settings(bench: Bench) -> Params:
    """Those of profile `llava-1.5-7b`, or of `tiny`; one worker on the bench's device."""
    params = load("tiny" if bench.tiny else "llava-1.5-7b")
    on_gpu = bench.device.type == "cuda"
    changed = {
        "workers": 1,
        "use_gpu": on_gpu,
        "precision": "bf16" if on_gpu else "fp32",
        "zero_stage": 2,
        "attention": "sdpa",
    }
    return params.model_copy(update={"training": params.training.model_copy(update=changed)})


def base(bench: Bench, params: Params) -> LlavaForConditionalGeneration:
    """The bare model; only its shape is that of the released one."""
    return of_config(bench, base_config(params))


def of_config(bench: Bench, config: LlavaConfig) -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(bench.dtype)
    try:
        with bench.device:
            model = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval()


def sharing(model: LlavaForConditionalGeneration) -> LlavaForConditionalGeneration:
    """A copy whose frozen weights are the same tensors: another adapter beside it, without memory for another base."""
    own = {id(parameter) for parameter in model.model.multi_modal_projector.parameters()}  # trained
    tensors = [*model.parameters(), *model.buffers()]
    return deepcopy(model, {id(tensor): tensor for tensor in tensors if id(tensor) not in own})


def adapter(params: Params, method: str, regime: tuple[int, list[str]] = NARROW) -> Adapter | None:
    chosen = METHODS[method]
    if chosen is None:
        return None
    rank, targets = regime
    moe = params.adapter.lora_moe.model_copy(update={"routing": "top_k", "num_experts": 4, "top_k": 2})
    rank = rank if params.profile != "tiny" else 8
    return params.adapter.model_copy(update={**chosen, "rank": rank, "targets": targets, "lora_moe": moe})


def adapted(
    whole: LlavaForConditionalGeneration,
    params: Params,
    method: str,
    *,
    vce: bool = False,
    regime: tuple[int, list[str]] = NARROW,
) -> Any:
    """The base with a fresh connector and adapter, as training and answering build it, in the base's precision."""
    model = sharing(whole)
    dtype, device = whole.dtype, whole.device
    torch.manual_seed(1)
    model, _ = build(Base(model, None, None, {}), params.vce if vce else None, adapter(params, method, regime))
    stop_after_last_level(model)
    for parameter in model.parameters():  # PEFT makes adapters in fp32
        if parameter.requires_grad:
            parameter.data = parameter.data.to(device, dtype)
    return model


def plain(model: Any) -> Any:
    """With transformers' own blocks: what a peer has."""
    unfuse(model)
    return model


def text(bench: Bench, model: Any, rows: int, tokens: int) -> torch.Tensor:
    """(rows, tokens) of random words, none of them the image's."""
    return torch.randint(5, model.config.image_token_id - 1, (rows, tokens), device=bench.device)


def pixels(bench: Bench, model: Any, images: int) -> torch.Tensor:
    side = model.config.vision_config.image_size
    return torch.randn(images, 3, side, side, device=bench.device, dtype=bench.dtype)
