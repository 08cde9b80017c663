"""Dual-LoRA and VCE in a LLaVA that `transformers` loads by itself: the code that an exported folder carries.

    AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)

Every matrix product is a plain nn.Linear and every norm a plain nn.LayerNorm, with the gate and the sum outside:
engines such as vLLM put their own layers in the place of each nn.Linear, and what a subclass adds would be lost.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaModel

from components.model.released_cue import ReleasedVisualCueEnhancement
from components.model.visual_cue import VisualCueEnhancement

Cue = VisualCueEnhancement | ReleasedVisualCueEnhancement
CUES = {"paper": VisualCueEnhancement, "released": ReleasedVisualCueEnhancement}

ACTIVATIONS = {
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "one": torch.ones_like,
    "none": lambda task: task,
}


class LeaConfig(LlavaConfig):
    """LLaVA's, and `lea`: {"vce": settings or null, "registers": n, "adapter": settings or null, "targets": names}."""

    model_type = "lea_llava"

    def __init__(self, lea: dict[str, Any] | None = None, **settings: Any) -> None:
        self.lea = lea or {"vce": None, "registers": 0, "adapter": None, "targets": []}
        super().__init__(**settings)


class DualLoraLinear(nn.Module):
    """z = W x + scale * B ( LayerNorm(S x) * activation(T x) )."""

    def __init__(self, base: nn.Linear, rank: int, scale: float, normalize: bool, activation: str) -> None:
        super().__init__()
        self.base = base
        self.skill = nn.Linear(base.in_features, rank, bias=False)
        self.task = nn.Linear(base.in_features, rank, bias=False)
        self.norm = nn.LayerNorm(rank) if normalize else nn.Identity()
        self.up = nn.Linear(rank, base.out_features, bias=False)
        self.scale, self.activate = scale, ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * self.up(self.norm(self.skill(x)) * self.activate(self.task(x)))


class LeaConnector(nn.Module):
    """projector(VCE(levels)), or the projector alone."""

    def __init__(self, projector: nn.Module, vce: Cue | None, num_registers: int) -> None:
        super().__init__()
        self.projector, self.vce, self.num_registers = projector, vce, num_registers

    def forward(self, features: Tensor) -> Tensor:
        features = features[:, self.num_registers :]
        if self.vce is not None:
            side = int(features.shape[1] ** 0.5)
            features = self.vce(torch.chunk(features, self.vce.num_levels, dim=-1), (side, side))
        return self.projector(features)


class LeaModel(LlavaModel):
    """LLaVA's model with the trained parts in their places."""

    config_class = LeaConfig

    def __init__(self, config: Any) -> None:
        levels = config.vision_feature_layer
        if config.lea["vce"]:  # the projector reads one level's width: VCE makes one of several
            config.vision_feature_layer = levels[0]
        super().__init__(config)
        config.vision_feature_layer = levels
        settings, vce = config.lea["vce"], None
        if settings:
            vce = CUES[settings["form"]](
                config.vision_config.hidden_size,
                len(settings["levels"]),
                num_heads=settings["num_heads"],
                num_points=settings["num_points"],
                scale=settings["scale"],
                anchor=settings["levels"].index(settings["anchor"]),
            )
        self.multi_modal_projector = LeaConnector(self.multi_modal_projector, vce, config.lea["registers"])
        for name in config.lea["targets"]:
            parent, _, leaf = name.rpartition(".")
            module = self.language_model.get_submodule(parent)
            setattr(module, leaf, DualLoraLinear(getattr(module, leaf), **config.lea["adapter"]))

    def _init_weights(self, module: nn.Module) -> None:
        """All weights come from the file."""


class LeaForConditionalGeneration(LlavaForConditionalGeneration):
    config_class = LeaConfig

    def __init__(self, config: Any) -> None:
        super(LlavaForConditionalGeneration, self).__init__(config)
        self.model = LeaModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """All weights come from the file."""
