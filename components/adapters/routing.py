"""How a router's logits become the weights of the experts, and what can be read from them.

Routers have no parameters of their own: they are modules so that a forward hook can read their weights, which is what
`RouterWeights` does for reports and for the balance loss.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.module_tracker import ModuleTracker

if TYPE_CHECKING:
    from jaxtyping import Float


class SoftmaxRouter(nn.Module):
    """Dense: every expert takes part; the weights sum to 1."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=-1)


class TopKRouter(nn.Module):
    """Sparse: the k largest softmax weights, renormalised to sum to 1; the others are exactly 0.

    Renormalising the largest softmax weights is the softmax over the largest logits alone.
    """

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, logits: Tensor) -> Tensor:
        top = logits.topk(self.k, dim=-1)
        weights = top.values.softmax(dim=-1)
        return torch.zeros_like(logits, dtype=weights.dtype).scatter(-1, top.indices, weights)


class RectifiedRouter(nn.Module):
    """RoDE: relu; a logit at or below zero switches its expert off; the weights have no fixed sum."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.relu()


ROUTERS = (SoftmaxRouter, TopKRouter, RectifiedRouter)


class RouterWeights:
    """Collects the weights that every router gives while the context is open, for reports and the balance loss.

        with RouterWeights(model) as routed:
            routed.mask = batch["attention_mask"].bool()
            loss = model(**batch).loss
        loss = loss + 0.01 * routed.balance_loss()

    Attributes:
        layers: router name -> weights (tokens, experts) of each forward pass.
        logits: router name -> what the router was given in each forward pass, (.., experts), with its gradients, and
            the mask of that pass. It is masked when the loss is made: inside a block that checkpointing computes a
            second time, in the backward pass, an operation more would be one too many. That pass is not counted again.
        mask: (batch, tokens), true where a token counts; None counts all. Set it before a forward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.mask: Tensor | None = None
        self.layers: dict[str, list[Tensor]] = {}
        self.logits: dict[str, list[tuple[Tensor, Tensor | None]]] = {}
        self._tracker = ModuleTracker()  # knows whether a backward pass is running
        self._routers = {name: module for name, module in model.named_modules() if isinstance(module, ROUTERS)}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> RouterWeights:
        for name, router in self._routers.items():
            self._hooks.append(router.register_forward_hook(self._keep(name)))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _keep(self, name: str):
        def hook(router: nn.Module, inputs: tuple[Tensor, ...], weights: Tensor) -> None:
            if self._tracker.is_bw:
                return
            if self.mask is not None and self.mask.shape != weights.shape[:-1]:
                raise ValueError(f"mask {tuple(self.mask.shape)} does not fit tokens {tuple(weights.shape[:-1])}")
            self.layers.setdefault(name, []).append(_counted(weights.detach(), self.mask))
            self.logits.setdefault(name, []).append((inputs[0], self.mask))

        return hook

    def load(self) -> dict[str, Tensor]:
        """Per layer the mean weight of each expert, (experts,)."""
        return {name: _mean(torch.cat(weights)) for name, weights in self.layers.items()}

    def share_off(self) -> dict[str, Tensor]:
        """Per layer the share of tokens for which each expert's weight is exactly zero, (experts,)."""
        return {name: _mean((torch.cat(weights) == 0).float()) for name, weights in self.layers.items()}

    def balance_loss(self) -> Tensor:
        """Mean over layers of experts * sum_i (share of tokens that prefer expert i) * (mean probability of expert i).

        The loss of Switch Transformer (Fedus et al. 2021, equations 4 to 6): 1 where all experts are used evenly, and
        `num_experts` where one takes everything. Probabilities are the softmax over all experts under every kind of
        routing, so that an expert that is never chosen learns too. A tie goes to the first of its experts; a layer
        without a token that counts adds 0.
        """
        if not self.layers:
            raise ValueError("no router has run: the model has no expert adapter, or the context was opened too late")
        losses = []
        for name, kept in self.logits.items():
            logits = torch.cat(
                [_counted(*given) for given in kept]
            ).float()  # a mean over many tokens needs more digits than half precision has
            if self._routers[name].training and torch.is_grad_enabled() and not logits.requires_grad:
                raise ValueError(
                    f"balance_loss would not train {name}: its forward pass ran without gradients, as under reentrant "
                    "checkpointing; use gradient_checkpointing_kwargs={'use_reentrant': False}"
                )
            chosen = functional.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
            losses.append(logits.shape[-1] * (_mean(chosen) * _mean(logits.softmax(dim=-1))).sum())
        return torch.stack(losses).mean()


def _counted(seen: Tensor, mask: Tensor | None) -> Tensor:
    """(.., experts) -> (tokens that count, experts)."""
    return seen.reshape(-1, seen.shape[-1]) if mask is None else seen[mask]


def _mean(rows: Tensor) -> Tensor:
    """Over tokens; 0 where there is none."""
    return rows.mean(dim=0) if len(rows) else rows.sum(dim=0)


def weigh(
    features: Float[Tensor, "*tokens rank"], weights: Float[Tensor, "*tokens experts"], ranks: list[int]
) -> Float[Tensor, "*tokens rank"]:
    """Multiply each expert's features (r_i of the rank) by its weight."""
    if len(set(ranks)) == 1:
        return (features.unflatten(-1, (len(ranks), ranks[0])) * weights.unsqueeze(-1)).flatten(-2)
    parts = zip(features.split(ranks, dim=-1), weights.split(1, dim=-1), strict=True)
    return torch.cat([feature * weight for feature, weight in parts], dim=-1)
