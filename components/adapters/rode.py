"""RoDE, rectified mixture of diverse experts (Jiao et al. 2024, arXiv 2407.12730; compared in paper 4.1).

Experts of different ranks under the router relu(G x): an expert whose weight is zero is switched off for that token.
The paper's ranks were lost in its text; 8, 8, 16 and 32 are assumed, 64 together like the other methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from .config import TypeName
from .experts import ExpertsConfig, ExpertsLayer, ExpertsModel
from .routing import RectifiedRouter


@dataclass
class RodeConfig(ExpertsConfig):
    """RoDE as a PEFT method.

    Args:
        r: the rank of all experts together.
        ranks: the rank of each expert; they sum to `r`.
    """

    ranks: list[int] = field(default_factory=lambda: [8, 8, 16, 32])

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = TypeName("RODE")
        self.require_ranks(self.ranks)

    def expert_ranks(self, rank: int) -> list[int]:
        return list(self.ranks)

    def router(self) -> nn.Module:
        return RectifiedRouter()


class RodeLayer(ExpertsLayer):
    """A linear layer with RoDE adapters by name."""


class RodeModel(ExpertsModel):
    """RoDE's tuner."""

    tuner_layer_cls = RodeLayer
    layer_cls = RodeLayer
