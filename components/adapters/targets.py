"""Targets that match nothing, found before PEFT touches the model."""

from __future__ import annotations

import difflib
import re
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn


def check_targets(model: nn.Module, config: Any) -> None:
    """Refuse targets that match no module, naming near ones. Serves every config with `target_modules`, LoRA's too."""
    targets = config.target_modules
    if not targets or targets == "all-linear":
        return
    modules = [name for name, _ in model.named_modules() if name]
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
    linears = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, (nn.Linear, BaseTunerLayer))}
    near = difflib.get_close_matches(unmatched.rsplit(".", 1)[-1], sorted(linears), n=3) or sorted(linears)[:10]
    raise ValueError(f"target_modules: {unmatched!r} matches no module of the model; near names: {', '.join(near)}")


def _segment_starts(name: str) -> list[int]:
    return [0, *(at + 1 for at, letter in enumerate(name) if letter == ".")]
