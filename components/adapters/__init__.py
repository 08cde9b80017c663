"""Dual-LoRA and the methods it is compared with, as PEFT methods.

    from components.adapters import DualLoraConfig
    model = get_peft_model(model, DualLoraConfig(r=64, lora_alpha=128, target_modules=["q_proj", "v_proj"]))

Importing this package makes the methods known to PEFT. It needs torch and peft, nothing else of this project.
`METHODS` is the one table of them; user mistakes raise a ValueError of one line.
"""

from peft import LoraConfig
from peft.config import PeftConfig

from .dual_lora import ACTIVATIONS, DualLoraConfig, DualLoraLayer, DualLoraModel
from .experts import ExpertsLayer
from .lora_moe import LoraMoeConfig, LoraMoeLayer, LoraMoeModel
from .rode import RodeConfig, RodeLayer, RodeModel
from .routing import RouterWeights
from .targets import check_targets
from .tuner import adapter_parameters, register

METHODS: dict[str, type[PeftConfig]] = {
    "lora": LoraConfig,
    "dual_lora": DualLoraConfig,
    "lora_moe": LoraMoeConfig,
    "rode": RodeConfig,
}

register("DUAL_LORA", DualLoraConfig, DualLoraModel)
register("LORA_MOE", LoraMoeConfig, LoraMoeModel)
register("RODE", RodeConfig, RodeModel)


def method(name: str) -> type[PeftConfig]:
    """The config class of a method by its exact name."""
    if name not in METHODS:
        raise ValueError(f"unknown adapter method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]


__all__ = [
    "ACTIVATIONS",
    "METHODS",
    "DualLoraConfig",
    "DualLoraLayer",
    "ExpertsLayer",
    "LoraConfig",
    "LoraMoeConfig",
    "LoraMoeLayer",
    "RodeConfig",
    "RodeLayer",
    "RouterWeights",
    "adapter_parameters",
    "check_targets",
    "method",
]
