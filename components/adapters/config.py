"""The settings that every method of this package has, in PEFT's field names, and how they are checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft.config import PeftConfig

from .targets import check_regexes


class TypeName(str):
    """What `peft_type` is here: a plain string, because PEFT's enum is closed.

    PEFT's mixed models, its `hotswap_adapter` and the `load_adapter` of transformers ask for an enum's value. They
    cannot carry these methods (they would not join what `fused.py` splits), which the error says.
    """

    def __str__(self) -> str:
        """Like a member of the enum: PEFT's `get_model_status` shows what stands behind the point."""
        return f"PeftType.{str.__str__(self)}"

    @property
    def value(self) -> str:
        raise ValueError(
            f"{str.__str__(self)} adapters are loaded by peft.PeftModel.from_pretrained and its load_adapter; "
            "a model's own load_adapter, hotswap_adapter and mixed models cannot carry them"
        )


# What makes the methods known, in the repository and installed; a copy of this folder elsewhere names itself.
IMPORTED = "local_enhanced_adapters" if str(__package__).endswith("components.adapters") else __package__
LOADING = """
## Loading

PEFT knows the method {method} once `{package}` is imported:

    import {package}
    model = peft.PeftModel.from_pretrained(base, FOLDER)
"""


@dataclass
class AdapterConfig(PeftConfig):
    """PEFT's own field names, with the values of the paper's downstream regime as defaults.

    `rank_pattern` and `alpha_pattern` map module names (the end of the name, or a regex) to another `r` or
    `lora_alpha`. `init_weights=False` starts B like A instead of at zero, so that a fresh adapter changes something.
    """

    r: int = 64
    lora_alpha: float = 128
    lora_dropout: float = 0.05
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    modules_to_save: list[str] | None = None
    init_weights: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.target_modules = _as_set(self.target_modules)
        self.exclude_modules = _as_set(self.exclude_modules)
        for where, pattern in (("rank_pattern", self.rank_pattern), ("alpha_pattern", self.alpha_pattern)):
            valid = isinstance(pattern, dict) and all(isinstance(key, str) for key in pattern)
            self.require(valid, f"{where} must map names of layers to numbers, got {pattern!r}")
        check_regexes(self)  # here already: PEFT uses them before it asks the tuner
        for where, rank in _named("r", self.r, "rank_pattern", self.rank_pattern):
            self.require_whole(where, rank)
        for where, alpha in _named("lora_alpha", self.lora_alpha, "alpha_pattern", self.alpha_pattern):
            self.require(_is_number(alpha) and 0 < alpha < math.inf, f"{where} must be a number above 0, got {alpha!r}")
        dropout = self.lora_dropout
        self.require(_is_number(dropout) and 0 <= dropout < 1, f"lora_dropout must be in [0, 1), got {dropout!r}")
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            self.require(False, "layers_to_transform needs target_modules as a list, got a regex")
        if self.layers_pattern and self.layers_to_transform is None:
            self.require(False, "layers_pattern needs layers_to_transform")

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """PEFT's, and in the README beside it what must be imported before the folder can be loaded."""
        super().save_pretrained(save_directory, **kwargs)
        card = Path(save_directory) / "README.md"
        said = card.read_text(encoding="utf-8") if card.exists() else ""
        loading = LOADING.format(method=str.__str__(self.peft_type), package=IMPORTED)  # pyright: ignore
        if loading.strip() not in said:
            card.write_text(f"{said}\n{loading}".lstrip(), encoding="utf-8")

    def require(self, holds: bool, otherwise: str) -> None:
        """Raise a ValueError of one line, with the name of the config in front, unless the condition holds."""
        if not holds:
            raise ValueError(f"{type(self).__name__}: {otherwise}")

    def require_whole(self, where: str, number: Any) -> None:
        valid = _is_number(number) and isinstance(number, int) and number >= 1
        self.require(valid, f"{where} must be a whole number of at least 1, got {number!r}")


def _named(name: str, value: Any, pattern_name: str, pattern: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value), *((f"{pattern_name} {key!r}", number) for key, number in pattern.items())]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_set(names: Any) -> Any:
    return set(names) if isinstance(names, (list, tuple)) else names
