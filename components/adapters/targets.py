"""Targets that match nothing, or where an adapter would do nothing, found before PEFT touches the model."""

from __future__ import annotations

import difflib
import re
from typing import Any

from peft.tuners.tuners_utils import (
    BaseTunerLayer,
    Conv1D,  # pyright: ignore[reportPrivateImportUsage]
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from torch import nn

LINEAR = (nn.Linear, Conv1D)  # what can be adapted; Conv1D is GPT-2's linear layer, whose weight is (in, out)


def check_targets(model: nn.Module, config: Any) -> None:
    """Refuse targets that match no module, naming near ones, and patterns that name no target.

    Serves every config with `target_modules`, LoRA's too.
    """
    check_regexes(config)
    targets = config.target_modules
    if not targets:
        return
    modules = {name: module for name, module in model.named_modules() if name}
    all_linear = names_all_linear(targets)
    if not all_linear:
        _check_names(modules, targets)
    for setting in ("rank_pattern", "alpha_pattern"):
        for key in getattr(config, setting, {}):
            named = (name for name in modules if re.match(rf"(.*\.)?({key})$", name))  # as PEFT reads such a key
            if not any(
                _is_linear(modules[name]) if all_linear else check_target_module_exists(config, name) for name in named
            ):
                raise ValueError(f"{setting}: {key!r} matches no layer that target_modules names")


def names_all_linear(targets: Any) -> bool:
    return isinstance(targets, str) and targets.lower() == "all-linear"


def find_all_linear(model: nn.Module, config: Any, adapted: type[nn.Module]) -> None:
    """Put names in the place of "all-linear", those of layers that have an adapter already among them.

    adapted: their class. PEFT finds such a layer by "Linear" in the name of its class, and would leave ours out.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # pyright: ignore
    own = {name for name, module in model.named_modules() if isinstance(module, adapted) and module is not head}
    config.target_modules = _maybe_include_all_linear_layers(config, model).target_modules | own  # pyright: ignore


def check_is_called(parent: nn.Module, name: str) -> None:
    """Refuse a layer whose weight torch reads without calling it: an adapter there would do nothing, unnoticed.

    An encoder layer of torch does so in evaluation alone, and goes the way of training from here on.
    """
    if isinstance(parent, nn.MultiheadAttention):
        raise ValueError(
            f"target_modules matches {name}: torch's MultiheadAttention reads its weight without calling it, so that "
            "an adapter there does nothing; name it in exclude_modules"
        )
    if isinstance(parent, nn.TransformerEncoderLayer):
        parent.activation_relu_or_gelu = 0  # no fused kernel is known for its activation


def check_regexes(config: Any) -> None:
    """Refuse what PEFT would read as a regex and is none."""
    for setting in ("target_modules", "exclude_modules", "rank_pattern", "alpha_pattern"):
        value = getattr(config, setting, None)
        for regex in [value] if isinstance(value, str) else value if isinstance(value, dict) else []:
            try:
                re.compile(regex)
            except re.error as error:
                raise ValueError(f"{setting}: {regex!r} is no valid regex: {error}") from None


def _check_names(modules: dict[str, nn.Module], targets: Any) -> None:
    if isinstance(targets, str):
        if any(re.fullmatch(targets, name) for name in modules):
            return
        unmatched = targets
    else:
        ends = {name[start:] for name in modules for start in _segment_starts(name)}
        missing = sorted(target for target in targets if target not in ends)
        if not missing:
            return
        unmatched = missing[0]
    linears = {name.rsplit(".", 1)[-1] for name, module in modules.items() if _is_linear(module)}
    near = difflib.get_close_matches(unmatched.rsplit(".", 1)[-1], sorted(linears), n=3) or sorted(linears)[:10]
    raise ValueError(f"target_modules: {unmatched!r} matches no module of the model; near names: {', '.join(near)}")


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, (*LINEAR, BaseTunerLayer))


def _segment_starts(name: str) -> list[int]:
    return [0, *(at + 1 for at, letter in enumerate(name) if letter == ".")]
