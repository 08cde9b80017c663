"""The whole model from its parts: frozen base, connector (VCE, and the projector or VLoRA's generator), adapter.

Parts are stored apart from the base, as safetensors: connector.safetensors, adapter/ (PEFT's own format) or, where it
was trained itself, language_model.safetensors, and model.json, which says how they belong together.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.constants import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from components import params
from components.adapters import method
from components.data.conversation import Encoder, Template
from components.errors import UserError
from components.files import write_tensors
from components.model.base import Base, load_base, read_config
from components.model.connector import Connector
from components.model.stored import ADAPTER_FOLDER, CONNECTOR_FILE, LANGUAGE_FILE, SETTINGS_FILE, read_settings
from components.model.vision_input import ImageMode
from components.model.vision_tower import stop_after_last_level
from components.model.visual_cue import VisualCueEnhancement
from components.model.vlora import make_visual_weights

CONNECTOR = "model.multi_modal_projector."  # where the connector's parameters lie in the model


@dataclass(frozen=True)
class Assistant:
    """A model that answers, with all that turns a question into its input."""

    model: LlavaForConditionalGeneration
    tokenizer: Any
    image_processor: Any
    template: Template
    image: ImageMode

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id

    @property
    def num_image_tokens(self) -> int:
        return self.model.config.image_seq_length

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self.template, self.image_token_id, self.num_image_tokens)


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
        enhancement = VisualCueEnhancement(
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
            **_own_settings(adapter),
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


def _own_settings(adapter: params.Adapter) -> dict[str, Any]:
    """What only one method has, in its config's names."""
    if adapter.kind == "dual_lora":
        return {"use_norm": adapter.dual_lora.normalize, "activation": adapter.dual_lora.activation}
    if adapter.kind == "lora_moe":
        return adapter.lora_moe.model_dump(exclude={"balance_loss"})
    if adapter.kind == "rode":
        return {"ranks": adapter.rode_ranks}
    return {}


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
    wrapped = get_peft_model(model, adapter_config(model, adapter)) if adapter else None
    connector = model.model.multi_modal_projector
    connector.requires_grad_(True)
    return model, wrapped  # pyright: ignore[reportReturnType]


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


def language_parts(model: LlavaForConditionalGeneration) -> tuple[nn.Module, ...]:
    return model.model.language_model, model.lm_head


def save_parts(
    folder: Path, settings: Mapping[str, Any], weights: Mapping[str, Tensor], wrapped: PeftModel | None
) -> None:
    """Write connector, adapter or language model, and model.json.

    weights: every trainable tensor by its name in the model.
    """
    connector = {n.removeprefix(CONNECTOR): t.contiguous() for n, t in weights.items() if n.startswith(CONNECTOR)}
    write_tensors(folder / CONNECTOR_FILE, connector)
    if wrapped is not None:
        own = {f"base_model.model.{name}": tensor for name, tensor in weights.items()}
        wrapped.save_pretrained(str(folder / ADAPTER_FOLDER), state_dict=own)
    elif len(weights) > len(connector):
        language = {n: t.contiguous() for n, t in weights.items() if not n.startswith(CONNECTOR)}
        write_tensors(folder / LANGUAGE_FILE, language)
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def load_connector(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Load the connector; a file that lacks one of its tensors, or holds another, is refused."""
    connector = model.model.multi_modal_projector
    connector.load_state_dict(_stored(folder / CONNECTOR_FILE, connector.state_dict()))


def load_language_model(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Load a language model that was trained; a file that lacks one of its tensors, or holds another, is refused."""
    language = {id(parameter) for part in language_parts(model) for parameter in part.parameters()}
    own = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in language}
    model.load_state_dict(_stored(folder / LANGUAGE_FILE, own), strict=False)


def load_adapter(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Put a stored adapter into the model; a file that lacks one of its tensors, or holds another, is refused."""
    place = folder / ADAPTER_FOLDER
    if not (place / CONFIG_NAME).is_file():  # PEFT would look for a hub id of that name
        raise UserError(f"{place / CONFIG_NAME} is missing; run: dvc repro")
    try:
        wrapped = PeftModel(model, PeftConfig.from_pretrained(str(place)))  # pyright: ignore[reportArgumentType]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place / CONFIG_NAME} is damaged or of another base: {error}") from None
    set_peft_model_state_dict(wrapped, _stored(place / SAFETENSORS_WEIGHTS_NAME, adapter_tensors(wrapped)))


def _stored(file: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, whose names and shapes are to be those of `expected`."""
    try:
        stored = load_file(file)
    except FileNotFoundError:
        raise UserError(f"{file} is missing; run: dvc repro") from None
    except SafetensorError as error:
        raise UserError(f"{file} is damaged: {error}") from None
    found, wanted = ({(name, tensor.shape) for name, tensor in tensors.items()} for tensors in (stored, expected))
    odd = sorted({name for name, _ in found ^ wanted})
    if odd:
        raise UserError(f"{file} does not fit the settings: {odd[0]} (and {len(odd) - 1} more)")
    return stored


def load_assistant(
    base_folder: Path, parts: Path | None, *, template: Template = "v1", image: ImageMode = "pad"
) -> Assistant:
    """Read base and parts for answering. Without parts: the bare base, asked in `template`."""
    base = load_base(base_folder)
    if parts is None:
        model: Any = base.model
        add_connector(model, None)
    else:
        settings = read_settings(parts)
        if settings["base"]["digest"] != base.reference["digest"]:
            raise UserError(
                f"{parts} was trained on base {settings['base']['digest'][:12]}, "
                f"but {base_folder} is {base.reference['digest'][:12]}; run: dvc repro"
            )
        vce = params.Vce(**settings["vce"]) if settings["vce"] else None
        vlora = params.VLora(**settings["vlora"]) if settings.get("vlora") else None
        model, _ = build(base, vce, None, vlora)
        load_connector(model, parts)
        if settings.get("language_model") == "trained":
            load_language_model(model, parts)
        if settings["adapter"]:
            load_adapter(model, parts)
    stop_after_last_level(model)
    model.requires_grad_(False)
    model.eval()
    return Assistant(model, base.tokenizer, base.image_processor, template, image)


def adapter_tensors(wrapped: PeftModel) -> dict[str, Tensor]:
    """The adapter's tensors under the names in which they are saved."""
    return get_peft_model_state_dict(wrapped)


def num_parameters(model: nn.Module) -> dict[str, int]:
    """How many parameters each part has, and the whole."""
    counts = {part: sum(p.numel() for _, p in members) for part, members in trainable_groups(model).items()}
    return {**counts, "total": sum(p.numel() for p in model.parameters())}


def precision_of(name: str) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
