"""What the trained parts do (paper figures 5 and 6): where the cue is strong, how the task space rectifies skills.

The paper prints no definition of its "information entropy". Computed here, per layer and token, with r skill units:

    skill     h = LayerNorm(S x)                    (S x where the norm is off)
    rectified h = LayerNorm(S x) * relu(T x)        (or the activation in use)
    share     p_j = h_j^2 / sum_k h_k^2             the part of the energy that unit j carries
    entropy   H = - sum_j p_j ln p_j                in nats, 0 (one unit) .. ln r (all alike); mean over tokens

Assumed: that shares of energy are meant (the paper speaks of "high-energy bands"); they do not depend on the scale of
h, so before and after compare, which a softmax over h would not allow. A token whose rectified features are all zero
has no distribution: it is left out of the rectified entropy and counted as silent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import TracebackType

import torch
from torch import Tensor, nn

from components.adapters import DualLoraLayer


def cue_heat_map(cue: Tensor, grid: tuple[int, int]) -> Tensor:
    """Strength of the visual cue over the image: (batch, patches, width) -> L2 norms (batch, rows, columns)."""
    return cue.float().norm(dim=-1).unflatten(1, grid)


def energy_shares(features: Tensor) -> Tensor:
    """(tokens, r) -> (tokens, r) that sum to 1; a row of zeros stays zeros."""
    # By the largest first, so that squares neither overflow nor vanish.
    peak = features.abs().amax(dim=-1, keepdim=True)
    energy = (features / peak.clamp(min=torch.finfo(features.dtype).tiny)).square()
    return energy / energy.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(features.dtype).tiny)


def entropy(shares: Tensor) -> Tensor:
    """(tokens, r) -> nats (tokens,); 0 ln 0 is 0."""
    return -torch.special.xlogy(shares, shares).sum(dim=-1)


@dataclass(frozen=True)
class LayerInsight:
    """Means over the tokens that one adapted layer has seen.

    Attributes:
        tokens: how many were seen.
        max_entropy: ln r, in nats.
        skill_entropy, rectified_entropy: in nats; the latter is nan when every token was silent.
        zero_task_share: share of task units at exactly zero after the activation.
        silent_share: share of tokens whose rectified features are all zero.
        skill_shares, rectified_shares: mean share of energy per unit, r numbers.
    """

    tokens: int
    max_entropy: float
    skill_entropy: float
    rectified_entropy: float
    zero_task_share: float
    silent_share: float
    skill_shares: tuple[float, ...]
    rectified_shares: tuple[float, ...]

    @property
    def rectified_is_lower(self) -> bool:
        """The paper's observation about figure 6 (c) and (f)."""
        return self.rectified_entropy < self.skill_entropy


@dataclass
class _Sums:
    tokens: int = 0
    heard: int = 0
    zero_units: float = 0.0
    entropies: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    shares: Tensor | None = None  # (2, r): skill, rectified

    def add(self, skill: Tensor, gate: Tensor) -> None:
        rectified = skill * gate
        before, after = energy_shares(skill), energy_shares(rectified)
        self.tokens += skill.shape[0]
        self.heard += int((rectified != 0).any(dim=-1).sum())
        self.zero_units += (gate == 0).double().mean(dim=-1).sum().item()
        self.entropies += torch.stack([entropy(before).sum(), entropy(after).sum()]).double().cpu()
        shares = torch.stack([before.sum(dim=0), after.sum(dim=0)]).double().cpu()
        self.shares = shares if self.shares is None else self.shares + shares

    def insight(self) -> LayerInsight:
        assert self.shares is not None
        skill, rectified = self.shares[0] / self.tokens, self.shares[1] / max(self.heard, 1)
        return LayerInsight(
            tokens=self.tokens,
            max_entropy=math.log(len(skill)),
            skill_entropy=self.entropies[0].item() / self.tokens,
            rectified_entropy=self.entropies[1].item() / self.heard if self.heard else math.nan,
            zero_task_share=self.zero_units / self.tokens,
            silent_share=1 - self.heard / self.tokens,
            skill_shares=tuple(skill.tolist()),
            rectified_shares=tuple(rectified.tolist()),
        )


class SkillSpaces:
    """Watches every Dual-LoRA layer of a model while the context is open. Use one per task to compare tasks.

        with SkillSpaces(model) as spaces:
            for batch in batches:
                spaces.mask = batch["attention_mask"].bool()
                model(**batch)
        spaces.layers()["...q_proj"].rectified_entropy

    Attributes:
        mask: (batch, tokens), true where a token counts; None counts all. Set it before a forward pass.
    """

    def __init__(self, model: nn.Module, adapter: str = "default") -> None:
        self.mask: Tensor | None = None
        self._layers = {n: m for n, m in model.named_modules() if isinstance(m, DualLoraLayer) and adapter in m.r}
        self._adapter = adapter
        self._sums: dict[str, _Sums] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> SkillSpaces:
        for name, layer in self._layers.items():
            self._hooks.append(layer.dual_lora_spaces[self._adapter].register_forward_hook(self._watch(name)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _watch(self, name: str):
        @torch.no_grad()
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], features: tuple[Tensor, Tensor]) -> None:
            skill, gate = features
            rows = slice(None)
            if self.mask is not None:
                if self.mask.shape != skill.shape[:-1]:
                    raise ValueError(f"mask {tuple(self.mask.shape)} does not fit tokens {tuple(skill.shape[:-1])}")
                rows = self.mask.to(skill.device).bool().flatten()
            skill, gate = (t.reshape(-1, t.shape[-1])[rows].float() for t in (skill, gate))
            if len(skill):
                self._sums.setdefault(name, _Sums()).add(skill, gate)

        return hook

    def layers(self) -> dict[str, LayerInsight]:
        """What was seen, per adapted layer, in the order in which the layers first ran."""
        return {name: sums.insight() for name, sums in self._sums.items()}
