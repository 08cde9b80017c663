"""The parts that are trained: `connector`, `vce`, `adapter`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from components.params.patterns import complaint
from components.params.section import Fraction, Positive, Section


def _names_or_a_regex(targets: Any) -> Any:
    names = [targets] if isinstance(targets, str) else targets
    if not (isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)):
        raise ValueError(f"must be a list of names or one regex, got {targets!r}")
    wrong = complaint(targets) if isinstance(targets, str) else None
    if wrong:
        raise ValueError(f"{targets[:80]!r} {wrong}")
    return targets


Form = Literal["paper", "released"]  # as the paper prints it, or as the authors' released code has it
Targets = Annotated[list[str] | str, BeforeValidator(_names_or_a_regex)]


MAX_RANK = 8192  # more than the width of the language models here: no low rank, and gigabytes per layer


class Vce(Section):
    """Visual Cue Enhancement (paper 3.3). Levels are hidden states of the vision encoder."""

    enabled: bool
    form: Form = "paper"  # attention, norms and sum: components/model/visual_cue.py and released_cue.py
    anchor: int
    levels: Annotated[list[int], Field(min_length=1)]
    num_heads: Positive
    num_points: Positive
    scale: float
    start: Literal["paper", "identity"]  # a full cue from the first step, or none: for a projector that is aligned

    @model_validator(mode="after")
    def _anchor_is_a_level(self) -> Vce:
        if self.anchor not in self.levels:
            raise ValueError(f"anchor {self.anchor} must be one of the levels {self.levels}")
        return self

    def misfit(self, width: int, layers: int) -> str | None:
        """Why this cannot read an encoder of so many features and layers; None if it can."""
        for level in self.levels:
            if not -layers - 1 <= level <= layers:
                return (
                    f"vce.levels holds {level}, but the vision encoder has hidden states "
                    f"0 to {layers} (or -1 to {-layers - 1})"
                )
        shares = len(self.levels) if self.form == "paper" else 1  # of the width that each level's values have
        if width % (shares * self.num_heads):
            parts = f"{shares} levels * vce.num_heads {self.num_heads}" if shares > 1 else f"num_heads {self.num_heads}"
            return f"the vision encoder's width {width} must divide by {parts}"
        return None


class VLora(Section):
    """Perceptual weights instead of visual tokens (Ma et al. 2024). Blocks every, 2 * every, ... (from 1) get them."""

    width: Positive  # of the generator
    types: Annotated[list[Literal["q", "k", "v", "o", "m"]], Field(min_length=1)]
    every: Positive
    rank: Positive
    alpha_over_rank: Annotated[float, Field(gt=0)]
    blocks: Positive  # of the generator, per type
    heads: Positive

    @model_validator(mode="after")
    def _fits_together(self) -> VLora:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads ({self.heads})")
        if len(set(self.types)) < len(self.types):
            raise ValueError(f"types {self.types} must name each type once")
        return self


class Connector(Section):
    kind: Literal["projector", "vlora"]
    vlora: VLora

    @property
    def chosen_vlora(self) -> VLora | None:
        return self.vlora if self.kind == "vlora" else None


class DualLora(Section):
    """As every section of a method: `check` what depends on the rank, and say it in the words of PEFT's config."""

    normalize: bool
    activation: Literal["relu", "none", "one", "leaky_relu", "gelu", "silu", "softplus", "sigmoid", "tanh"]

    def check(self, rank: int) -> None:
        if self.normalize and rank < 2:
            raise ValueError("rank must be at least 2 with dual_lora.normalize, got 1: LayerNorm over one feature is 0")

    def peft_arguments(self, adapter: Adapter) -> dict[str, Any]:
        return {"use_norm": self.normalize, "activation": self.activation, "form": adapter.form}


class LoraMoe(Section):
    routing: Literal["softmax", "top_k"]
    num_experts: Positive
    top_k: Positive
    balance_loss: Annotated[float, Field(ge=0)]  # weight of the load-balancing loss; 0 switches it off

    def check(self, rank: int) -> None:
        if rank % self.num_experts:
            raise ValueError(f"rank {rank} must divide by lora_moe.num_experts {self.num_experts}")
        least, most = min(2, self.num_experts), self.num_experts  # one alone has weight 1, and no router to train
        if self.routing == "top_k" and not least <= self.top_k <= most:
            raise ValueError(f"lora_moe.top_k {self.top_k} must be between {least} and lora_moe.num_experts {most}")

    def peft_arguments(self, adapter: Adapter) -> dict[str, Any]:
        return self.model_dump(exclude={"balance_loss"})


class Rode(Section):
    rank_shares: Annotated[list[Positive], Field(min_length=1)]  # of the experts; the ranks sum to adapter.rank

    def check(self, rank: int) -> None:
        if rank % sum(self.rank_shares):
            total, shares = sum(self.rank_shares), self.rank_shares
            raise ValueError(f"rank {rank} must divide by {total}, the sum of rode.rank_shares {shares}")

    def peft_arguments(self, adapter: Adapter) -> dict[str, Any]:
        return {"ranks": [adapter.rank // sum(self.rank_shares) * share for share in self.rank_shares]}


class Adapter(Section):
    """`rank` is that of all experts together where there are several.

    `form` is Dual-LoRA's, whose released code differs from the print; the other methods have one form and ignore it.
    """

    kind: Literal["lora", "dual_lora", "lora_moe", "rode"]
    form: Form = "paper"
    rank: Annotated[int, Field(ge=1, le=MAX_RANK)]
    alpha_over_rank: Annotated[float, Field(gt=0)]
    dropout: Fraction
    targets: Targets
    dual_lora: DualLora
    lora_moe: LoraMoe
    rode: Rode

    @property
    def method(self) -> DualLora | LoraMoe | Rode | None:
        """The section that bears the method's name; plain LoRA has none."""
        return getattr(self, self.kind, None)

    @property
    def peft_arguments(self) -> dict[str, Any]:
        """What only this method has, in the names of its PEFT config."""
        return self.method.peft_arguments(self) if self.method else {}

    @model_validator(mode="after")
    def _rank_serves_the_method(self) -> Adapter:
        if self.method:
            self.method.check(self.rank)
        return self
