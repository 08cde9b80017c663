"""Dual-LoRA (paper 3.4): one skill space, rectified by one task space.

             x ---+------------ W -------------------------+--- z
                  |                                        |
               dropout --+-- S -- LayerNorm --+            |
                         |                    * -- B ------+
                         +-- T -- activation -+

    z = W x + (alpha / r) * B ( LayerNorm(S x) * relu(T x) )        * is element by element

The authors' released code (github.com/pengkun-jiao/FHTC, commit a4d92c4) has the dropout on the skill path alone,
`form="released"`; without dropout, as in evaluation, both forms are one:

             x ---+------------ W -------------------------+--- z
                  |                                        |
                  +-- dropout -- S -- LayerNorm --+        |
                  |                               * -- B --+
                  +-- T -- activation ------------+

S and T (each r x in) are one tensor (2r x in), rows of S first, so that both cost one GEMM; they are split when saved.
S and T start Kaiming uniform (a = sqrt 5), B (out x r) at zero. LayerNorm runs over the r skill features and has
weight and bias; all of this as released.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft.config import PeftConfig
from torch import Tensor, nn
from torch.nn import functional

from .config import AdapterConfig, TypeName
from .fast import norm_gate
from .fused import JointLinear, join_rows, rename, split_rows
from .tuner import AdapterLayer, AdapterModel, UpLinear, ZeroUpLinear, modules_by_adapter

if TYPE_CHECKING:
    from jaxtyping import Float


def _unchanged(task: Tensor) -> Tensor:
    return task


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "none": _unchanged,
    "one": torch.ones_like,  # without the norm this is LoRA with A = S
    "leaky_relu": functional.leaky_relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


FORMS = ("paper", "released")
SPACES = ("dual_lora_skill", "dual_lora_task")  # the halves of the fused tensor, as the file names them


def _num_skills(rows: int) -> int:
    return rows // 2


@dataclass
class DualLoraConfig(AdapterConfig):
    """Dual-LoRA as a PEFT method. The two switches are the ablations of paper Table 4.

    Args:
        use_norm: LayerNorm over the skill features.
        activation: what rectifies the task features, a name in `ACTIVATIONS`; "none" leaves them as they are.
        form: "paper" (dropout on x for both spaces) or "released" (on the skill path alone).
    """

    use_norm: bool = True
    activation: str = "relu"
    form: str = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = TypeName("DUAL_LORA")
        known = tuple(ACTIVATIONS)
        self.require(self.activation in known, f"activation must be one of {', '.join(known)}; got {self.activation!r}")
        self.require(self.form in FORMS, f"form must be one of {', '.join(FORMS)}; got {self.form!r}")
        lowest = min([self.r, *self.rank_pattern.values()])
        reason = "LayerNorm over one skill feature is 0, so that nothing is learnt"
        self.require(lowest >= 2 or not self.use_norm, f"use_norm needs a rank of at least 2, got {lowest}: {reason}")


class Spaces(JointLinear):
    """[S; T] and the norm over S x, in one module: at one token a call costs as much as an operator.

    The norm's weight and bias (r) are parameters of this module, not of a LayerNorm inside, because ZeRO-3 gathers
    what the called module owns.
    """

    def __init__(self, in_features: int, rank: int, config: DualLoraConfig, **factory: Any) -> None:
        super().__init__(in_features, rank, rank, **factory)
        self.norm_shape = (rank,)
        self.use_norm = config.use_norm
        self.rectify_dropped = config.form == "paper"  # the task space sees what dropout leaves, like the skills
        self.activate = ACTIVATIONS[config.activation]
        if config.use_norm:
            self.norm_weight = nn.Parameter(torch.ones(rank, **factory))
            self.norm_bias = nn.Parameter(torch.zeros(rank, **factory))

    def forward(
        self, x: Float[Tensor, "*tokens inputs"], dropped: Float[Tensor, "*tokens inputs"]
    ) -> tuple[Float[Tensor, "*tokens rank"], Float[Tensor, "*tokens rank"] | None]:
        """x and what dropout leaves of it -> skill features, activated task features.

        Or their product and None, where that is one kernel.
        """
        skill, task = super().forward(dropped if self.rectify_dropped else x, dropped)
        if self.use_norm:
            if self.activate is torch.relu:
                product = norm_gate(self, skill, task, self.norm_weight, self.norm_bias)
                if product is not None:
                    return product, None
            skill = functional.layer_norm(skill, self.norm_shape, self.norm_weight, self.norm_bias)
        return skill, self.activate(task)


class DualLoraLayer(AdapterLayer):
    """A linear layer with Dual-LoRA adapters by name."""

    adapter_layer_names = ("dual_lora_spaces", "dual_lora_up")

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__(base_layer, adapter_name)
        self.dual_lora_spaces: dict[str, Spaces] = modules_by_adapter()  # [S; T]: in -> 2r
        self.dual_lora_up: dict[str, UpLinear] = modules_by_adapter()  # B: r -> out

    def build(self, name: str, config: DualLoraConfig, rank: int, factory: dict[str, Any]) -> None:
        up = ZeroUpLinear if config.init_weights else UpLinear
        self.dual_lora_spaces[name] = Spaces(self.in_features, rank, config, **factory)
        self.dual_lora_up[name] = up(rank, self.out_features, bias=False, **factory)

    def extend(
        self, name: str, x: Float[Tensor, "*tokens inputs"], onto: Float[Tensor, "*tokens outputs"]
    ) -> Float[Tensor, "*tokens outputs"]:
        spaces = self.dual_lora_spaces[name]
        skill, gate = spaces(*self.adapter_input(name, x, spaces.weight.dtype))
        return self.dual_lora_up[name](skill if gate is None else skill * gate, onto, self.scaling[name])

    def why_not_mergeable(self, name: str) -> str | None:
        spaces = self.dual_lora_spaces[name]
        if spaces.activate is torch.ones_like and not spaces.use_norm:
            return None
        return "Dual-LoRA's change of the weights depends on the input (LayerNorm and task space)"

    def delta_weight(self, name: str) -> Float[Tensor, "outputs inputs"]:
        skill = self.dual_lora_spaces[name].weight.detach().chunk(2)[0]
        return self.scaling[name] * (self.dual_lora_up[name].weight.detach() @ skill)


class DualLoraModel(AdapterModel):
    """Dual-LoRA's tuner: splits S and T on saving, joins them on loading."""

    prefix = "dual_lora_"
    tuner_layer_cls = DualLoraLayer
    layer_cls = DualLoraLayer

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
        entries = rename(entries, r"\.dual_lora_spaces(\..+)?\.norm_(\w+)$", r".dual_lora_norm\1.\2")
        return split_rows(entries, "dual_lora_spaces", SPACES, _num_skills)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        entries = join_rows(state_dict, "dual_lora_spaces", SPACES, _num_skills)
        entries = rename(entries, r"\.dual_lora_norm(\..+)?\.(\w+)$", r".dual_lora_spaces\1.norm_\2")
        return super()._remap_adapter_state_dict_for_load(model, config, adapter_name, entries)
