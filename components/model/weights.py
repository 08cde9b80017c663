"""The trained parts as files, apart from the base.

connector.safetensors, adapter/ (PEFT's own format) or, where it was trained itself, language_model.safetensors, and
model.json, which says how they belong together. A file that lacks a tensor, or holds another, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel
from peft.utils.constants import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from peft.utils.save_and_load import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from components.adapters import METHODS, LoraConfig
from components.errors import UserError
from components.files import write_tensors
from components.model.released_cue import UNUSED_NORM, ReleasedVisualCueEnhancement
from components.model.stored import ADAPTER_FOLDER, CONNECTOR_FILE, LANGUAGE_FILE, SETTINGS_FILE, path_free
from components.params.model import MAX_RANK
from components.params.patterns import complaint

CONNECTOR = "model.multi_modal_projector."  # where the connector's parameters lie in the model


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
        _name_base(wrapped, settings["base"])
        own = {f"base_model.model.{name}": tensor for name, tensor in weights.items()}
        wrapped.save_pretrained(str(folder / ADAPTER_FOLDER), state_dict=own, save_embedding_layers=False)
    elif len(weights) > len(connector):
        language = {n: t.contiguous() for n, t in weights.items() if not n.startswith(CONNECTOR)}
        write_tensors(folder / LANGUAGE_FILE, language)
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _name_base(wrapped: PeftModel, reference: Mapping[str, Any]) -> None:
    """Say in adapter_config.json and the README which base this is, as `path_free` does. A hub id stays one that can be
    loaded; any other base has its digest behind its kind."""
    name, revision = path_free(reference)["id"], reference["revision"]
    if not revision:
        name = f"{name}@{reference['digest'][:16]}"
    config = wrapped.active_peft_config
    config.base_model_name_or_path, config.revision = name, revision
    base: Any = wrapped.get_base_model()
    base.config._name_or_path = base.name_or_path = name  # what PEFT writes into the README


def load_connector(model: LlavaForConditionalGeneration, folder: Path) -> None:
    connector: Any = model.model.multi_modal_projector
    stored = _read(folder / CONNECTOR_FILE)
    if isinstance(connector.vce, ReleasedVisualCueEnhancement) and any(UNUSED_NORM in name for name in stored):
        connector.vce.keep_unused_norm()
    connector.load_state_dict(_fitting(folder / CONNECTOR_FILE, stored, connector.state_dict()))


def load_language_model(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Load a language model that was trained."""
    language = {id(parameter) for part in language_parts(model) for parameter in part.parameters()}
    own = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in language}
    model.load_state_dict(_stored(folder / LANGUAGE_FILE, own), strict=False)


def load_adapter(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Put a stored adapter into the model."""
    place = folder / ADAPTER_FOLDER
    if not (place / CONFIG_NAME).is_file():  # PEFT would look for a hub id of that name
        raise UserError(f"{place / CONFIG_NAME} is missing; run: dvc repro")
    try:
        config = PeftConfig.from_pretrained(str(place))
        check_adapter(config, place / CONFIG_NAME)
        wrapped = PeftModel(model, config)  # pyright: ignore[reportArgumentType]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{place / CONFIG_NAME} is damaged or of another base: {error}") from None
    set_peft_model_state_dict(wrapped, _stored(place / SAFETENSORS_WEIGHTS_NAME, adapter_tensors(wrapped)))


# Of PEFT's own LoRA, what a folder may set: no variant of it, nothing that replaces layers.
PLAIN_LORA = frozenset(
    {
        *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "task_type"),
        *("inference_mode", "r", "lora_alpha", "lora_dropout", "target_modules"),
    }
)


def check_adapter(config: PeftConfig, file: Path) -> None:
    """UserError unless an adapter folder describes a method of this project or plain LoRA, of a sensible size.

    PEFT builds whatever such a file names: prompt tuning, for one, loads a tokenizer, and with it foreign code.
    """
    if type(config) not in METHODS.values():
        raise UserError(f"{file}: peft_type {config.peft_type} is no method of this project ({', '.join(METHODS)})")
    if type(config) is LoraConfig:
        plain = vars(LoraConfig())
        odd = [name for name, value in vars(config).items() if name not in PLAIN_LORA and value != plain.get(name)]
        if odd:
            raise UserError(f"{file}: {odd[0]} is no setting of plain LoRA")
    settings: Any = config
    targets, ranks = settings.target_modules, [settings.r, *getattr(settings, "rank_pattern", {}).values()]
    wrong = complaint(targets) if isinstance(targets, str) else None
    if wrong:
        raise UserError(f"{file}: target_modules {targets[:80]!r} {wrong}")
    if not all(isinstance(rank, int) and 0 < rank <= MAX_RANK for rank in ranks):
        raise UserError(f"{file}: rank must be 1 to {MAX_RANK}, got {max(ranks, key=str)}")


def _stored(file: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return _fitting(file, _read(file), expected)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError:
        raise UserError(f"{file} is missing; run: dvc repro") from None
    except SafetensorError as error:
        raise UserError(f"{file} is damaged: {error}") from None


def _fitting(file: Path, stored: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file, whose names and shapes are to be those of `expected`."""
    found, wanted = ({(name, tensor.shape) for name, tensor in tensors.items()} for tensors in (stored, expected))
    odd = sorted({name for name, _ in found ^ wanted})
    if odd:
        raise UserError(f"{file} does not fit the settings: {odd[0]} (and {len(odd) - 1} more)")
    return stored


def adapter_tensors(wrapped: PeftModel) -> dict[str, Tensor]:
    """The adapter's tensors under the names in which they are saved."""
    return get_peft_model_state_dict(wrapped, save_embedding_layers=False)
