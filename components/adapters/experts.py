"""Several low-rank experts with a router around one frozen linear layer: what LoRA-MoE and RoDE share.

    z = W x + sum_i  w_i(G x) * (alpha_i / r_i) * B_i A_i x

               x ---+------------- W -----------------------------+--- z
                    |                                             |
                  +-- dropout -- [A_1; ...; A_E] -- * -- [B_1 ... B_E]
                  +-- G -- softmax, top-k or relu --+

All A_i and the router G are one tensor, and so are all B_i: the sum over experts is one product, and a token pays two
GEMMs however many experts there are (three while dropout is active). `r` is the rank of all experts together, so that
methods of equal `r` compare; every expert keeps the ratio alpha_i / r_i = lora_alpha / r (assumed). G reads x without
dropout, as the public code of LoRAMoE, MoLA and MixLoRA does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from peft.config import PeftConfig
from torch import Tensor, nn

from .config import AdapterConfig
from .fast import route
from .fused import JointLinear, join_rows, split_rows
from .routing import weigh
from .tuner import AdapterLayer, AdapterModel, UpLinear, ZeroUpLinear, modules_by_adapter

if TYPE_CHECKING:
    from jaxtyping import Float


class ExpertsConfig(AdapterConfig):
    """What `ExpertsLayer` asks of a config."""

    def require_ranks(self, ranks: list[int]) -> None:
        """Given ranks are whole numbers that sum to `r`, and hold for every layer."""
        self.require(isinstance(ranks, (list, tuple)), f"ranks must be a list of whole numbers, got {ranks!r}")
        for rank in ranks:
            self.require_whole("each of ranks", rank)
        self.require(sum(ranks) == self.r, f"ranks must sum to r = {self.r}, got {ranks}")
        self.require(not self.rank_pattern, "rank_pattern cannot be used: ranks holds for every layer")

    def expert_ranks(self, rank: int) -> list[int]:
        """The rank of each expert in a layer of total rank `rank`."""
        raise NotImplementedError

    def router(self) -> nn.Module:
        raise NotImplementedError


class ExpertsLayer(AdapterLayer):
    """A linear layer with adapters made of experts."""

    adapter_layer_names = ("expert_in", "expert_up")
    other_param_names = (*AdapterLayer.other_param_names, "expert_routers", "ranks")

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__(base_layer, adapter_name)
        self.expert_in: dict[str, JointLinear] = modules_by_adapter()  # [A_1; ...; A_E; G]: in -> r + E
        self.expert_up: dict[str, UpLinear] = modules_by_adapter()  # [B_1 ... B_E]: r -> out
        # Logits -> weights, without parameters; not "router", which modules_to_save=["router"] would take.
        self.expert_routers: dict[str, nn.Module] = modules_by_adapter()
        self.ranks: dict[str, list[int]] = {}

    def build(self, name: str, config: ExpertsConfig, rank: int, factory: dict[str, Any]) -> None:
        up = ZeroUpLinear if config.init_weights else UpLinear
        ranks = config.expert_ranks(rank)
        self.ranks[name] = ranks
        self.expert_in[name] = JointLinear(self.in_features, rank, len(ranks), **factory)
        self.expert_up[name] = up(rank, self.out_features, bias=False, **factory)
        self.expert_routers[name] = config.router()

    def extend(
        self, name: str, x: Float[Tensor, "*tokens inputs"], onto: Float[Tensor, "*tokens outputs"]
    ) -> Float[Tensor, "*tokens outputs"]:
        down = self.expert_in[name]
        features, logits = down(*self.adapter_input(name, x, down.weight.dtype))
        router, ranks = self.expert_routers[name], self.ranks[name]
        weighed = route(router, features, logits, ranks)
        if weighed is None:
            weighed = weigh(features, router(logits), ranks)
        return self.expert_up[name](weighed, onto, self.scaling[name])

    def why_not_mergeable(self, name: str) -> str | None:
        return "the weights of its experts depend on the input"

    def delta_weight(self, name: str) -> Float[Tensor, "outputs inputs"]:
        """Of an adapter whose weights are constant 1: softmax over a single expert."""
        down = self.expert_in[name].weight.detach()[: self.r[name]]
        return self.scaling[name] * (self.expert_up[name].weight.detach() @ down)


def _num_features(config: PeftConfig) -> Callable[[int], int]:
    """From the rows of [A_1; ...; A_E; G] to those that are not G's."""
    assert isinstance(config, ExpertsConfig)
    num_experts = len(config.expert_ranks(config.r))
    return lambda rows: rows - num_experts


class ExpertsModel(AdapterModel):
    """The tuner of expert adapters: splits A and G on saving, joins them on loading."""

    prefix = "expert_"

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        entries = super()._get_adapter_state_dict(model, config, adapter_name, state_dict, unwanted_adapter_names)
        return split_rows(entries, "expert_in", ("expert_down", "expert_gate"), _num_features(config))

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        joined = join_rows(state_dict, "expert_in", ("expert_down", "expert_gate"), _num_features(config))
        return super()._remap_adapter_state_dict_for_load(model, config, adapter_name, joined)
