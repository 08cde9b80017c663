"""LoRA-MoE (compared in paper 4.1): low-rank experts under a softmax router, dense or sparse.

softmax: all experts, weighted by softmax(G x). top_k: the `top_k` largest of those weights, renormalised.
The paper's ranks and number of experts were lost in its text; 4 experts of rank 16 are assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .config import TypeName
from .experts import ExpertsConfig, ExpertsLayer, ExpertsModel
from .routing import SoftmaxRouter, TopKRouter


@dataclass
class LoraMoeConfig(ExpertsConfig):
    """LoRA-MoE as a PEFT method.

    Args:
        r: the rank of all experts together.
        num_experts: how many; `r` is shared out evenly unless `ranks` says otherwise.
        ranks: the rank of each expert; they sum to `r`.
        routing: "softmax" (dense) or "top_k" (sparse).
        top_k: experts per token under "top_k", at least 2: a single weight is renormalised to 1, whatever the logits,
            and its router would not learn. The paper's is 2.
    """

    num_experts: int = 4
    ranks: list[int] | None = None
    routing: str = "softmax"
    top_k: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = TypeName("LORA_MOE")
        self.require_whole("num_experts", self.num_experts)
        self.require_whole("top_k", self.top_k)
        self.require(self.routing in ("softmax", "top_k"), f"routing must be softmax or top_k, got {self.routing!r}")
        if self.routing == "top_k":
            least, most = min(2, self.num_experts), self.num_experts
            in_range = least <= self.top_k <= most
            self.require(in_range, f"top_k must be between {least} and num_experts = {most}, got {self.top_k}")
        if self.ranks is not None:
            self.require_ranks(self.ranks)
            agree = len(self.ranks) == self.num_experts
            self.require(agree, f"ranks must be num_experts = {self.num_experts} numbers, got {self.ranks}")
        else:
            for rank in (self.r, *self.rank_pattern.values()):
                even = rank % self.num_experts == 0
                self.require(even, f"rank {rank} must divide by num_experts = {self.num_experts}; or set ranks")

    def expert_ranks(self, rank: int) -> list[int]:
        return list(self.ranks) if self.ranks is not None else [rank // self.num_experts] * self.num_experts

    def router(self) -> nn.Module:
        return SoftmaxRouter() if self.routing == "softmax" else TopKRouter(self.top_k)


class LoraMoeLayer(ExpertsLayer):
    """A linear layer with LoRA-MoE adapters by name."""

    def why_not_mergeable(self, name: str) -> str | None:
        return None if len(self.ranks[name]) == 1 else super().why_not_mergeable(name)


class LoraMoeModel(ExpertsModel):
    """LoRA-MoE's tuner."""

    tuner_layer_cls = LoraMoeLayer
    layer_cls = LoraMoeLayer
