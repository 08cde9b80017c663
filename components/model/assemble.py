"""The whole model from its parts: frozen base, connector (VCE, and the projector or VLoRA's generator), adapter."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import LlavaForConditionalGeneration

from components import params
from components.adapters import method
from components.errors import UserError
from components.model.base import Base, read_config
from components.model.blocks import fuse
from components.model.connector import Connector
from components.model.released_cue import ReleasedVisualCueEnhancement
from components.model.visual_cue import VisualCueEnhancement
from components.model.vlora import make_visual_weights
from components.model.weights import CONNECTOR, language_parts

CUES = {"paper": VisualCueEnhancement, "released": ReleasedVisualCueEnhancement}  # forms of VCE


def add_connector(
    model: LlavaForConditionalGeneration, vce: params.Vce | None, vlora: params.VLora | None = None
) -> None:
    """Put a fresh connector into a base model. Without `vlora` the base's own projector stays, with or without VCE."""
    vision = cast(Any, model.config.vision_config)
    like = model.model.multi_modal_projector.linear_1.weight  # device and precision
    head: Any = model.model.multi_modal_projector if vlora is None else make_visual_weights(model, vlora).to(like)
    enhancement = None
    if vce is not None:
        misfit = vce.misfit(vision.hidden_size, vision.num_hidden_layers)
        if misfit:
            raise UserError(f"params.yaml: {misfit}")
        enhancement = CUES[vce.form](
            vision.hidden_size,
            len(vce.levels),
            num_heads=vce.num_heads,
            num_points=vce.num_points,
            scale=vce.scale,
            anchor=vce.levels.index(vce.anchor),
            start=vce.start,
        )
        enhancement.to(like)
        model.config.vision_feature_layer = list(vce.levels)
    registers = getattr(vision, "num_register_tokens", 0)
    model.model.multi_modal_projector = Connector(head, enhancement, registers)  # pyright: ignore


def adapter_config(model: nn.Module, adapter: params.Adapter) -> PeftConfig:
    """PEFT's configuration of an adapter on the language model's linear layers."""
    try:
        make: Any = method(adapter.kind)
        return make(
            r=adapter.rank,
            lora_alpha=adapter.alpha_over_rank * adapter.rank,
            lora_dropout=adapter.dropout,
            target_modules=rf".*language_model\.(?:{_target_pattern(model, adapter.targets)})",
            **adapter.peft_arguments,
        )
    except ValueError as error:
        reason = str(error).removeprefix(f"{method(adapter.kind).__name__}: ")
        raise UserError(f"params.yaml: adapter ({adapter.kind}): {reason}") from None


def _target_pattern(model: nn.Module, targets: list[str] | str) -> str:
    """Names of layers, or one regex over the path within the language model, as one regex that matches something."""
    inside = {
        path.rpartition("language_model.")[2]: module
        for path, module in model.named_modules()
        if "language_model." in path
    }
    patterns = {targets: targets} if isinstance(targets, str) else {t: rf"(?:.*\.)?{re.escape(t)}" for t in targets}
    for target, pattern in patterns.items():
        matched = [path for path in inside if re.fullmatch(pattern, path)]
        odd = next((path for path in matched if not isinstance(inside[path], nn.Linear)), None)
        if matched and odd is None:
            continue
        linear = sorted({path.rpartition(".")[2] for path, m in inside.items() if isinstance(m, nn.Linear)})
        near = difflib.get_close_matches(target.rpartition(".")[2], linear, n=3) or linear
        wrong = f"{odd}, a {type(inside[odd]).__name__}, not a linear layer" if odd else "no layer"
        raise UserError(
            f"params.yaml: adapter.targets: {target!r} matches {wrong} of the language model; "
            f"near names: {', '.join(near)}"
        )
    return "|".join(patterns.values())


def build(
    base: Base,
    vce: params.Vce | None,
    adapter: params.Adapter | None,
    vlora: params.VLora | None = None,
    *,
    train_language_model: bool = False,
) -> tuple[LlavaForConditionalGeneration, PeftModel | None]:
    """Base + fresh connector + fresh adapter; only these may be trained, and the language model where it is said.

    The adapter is put into the model in place; the PeftModel around it saves and loads it.
    """
    assert not (adapter and train_language_model), "an adapter is for a language model that stays as it is"
    model = base.model
    model.requires_grad_(False)
    add_connector(model, vce, vlora)
    for part in language_parts(model) if train_language_model else ():
        part.requires_grad_(True)
    wrapped = put_adapter(model, adapter) if adapter else None
    fuse(model)
    model.model.multi_modal_projector.requires_grad_(True)
    return model, wrapped


def put_adapter(model: LlavaForConditionalGeneration, adapter: params.Adapter) -> PeftModel:
    """Put a fresh adapter into a model, in place."""
    return get_peft_model(model, adapter_config(model, adapter))  # pyright: ignore


def check_fit(
    base_folder: Path, vce: params.Vce | None, adapter: params.Adapter | None, vlora: params.VLora | None = None
) -> None:
    """Refuse parts that do not fit a base, without its weights: before workers are started for them."""
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(read_config(base_folder))
        add_connector(model, vce, vlora)
    if adapter:
        adapter_config(model, adapter)


def trainable_groups(model: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Trainable parameters by part. Every one belongs to exactly one part.

    The parts: projector or vlora, vce, adapter or language_model; their names are those of the learning rates.
    """
    parts = ("projector", "vlora", "vce", "adapter", "language_model")
    groups: dict[str, list[tuple[str, nn.Parameter]]] = {part: [] for part in parts}
    adapted = any(isinstance(module, BaseTunerLayer) for module in model.modules())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name.startswith(CONNECTOR):
            groups[name.removeprefix(CONNECTOR).partition(".")[0]].append((name, parameter))
        elif parameter.requires_grad:
            groups["adapter" if adapted else "language_model"].append((name, parameter))
    return {part: members for part, members in groups.items() if members}


def recompute_blocks(model: LlavaForConditionalGeneration) -> None:
    """The language model's blocks keep their inputs only and are computed again in the backward pass."""
    model.model.language_model.activation_checkpointing_enable({"use_reentrant": False})


def compile_blocks(model: LlavaForConditionalGeneration) -> None:
    """torch.compile fuses what is element by element in each block (norms, rotary, SwiGLU, adapters), in place.

    Blocks are alike, so that the first one's code serves all; another length is compiled once more, then any length.
    """
    for block in cast(Any, model.model.language_model).layers:
        block.compile()


def num_parameters(model: nn.Module) -> dict[str, int]:
    """How many parameters each part has, and the whole."""
    counts = {part: sum(p.numel() for _, p in members) for part, members in trainable_groups(model).items()}
    return {**counts, "total": sum(p.numel() for p in model.parameters())}


def precision_of(name: str) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]


def to_precision(model: Any, name: str) -> Any:
    """Parameters in a precision; buffers keep theirs, for rotary frequencies are fp32 by design."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(precision_of(name))
    return model
