"""How a router's logits become the weights of the experts, and what can be read from them.

Routers have no parameters of their own: they are modules so that a forward hook can read their weights, which is what
`RouterWeights` does for reports and for the balance loss.
"""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn


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
        layers: router name -> weights (tokens, experts) of each forward pass, with their gradients.
        mask: (batch, tokens), true where a token counts; None counts all. Set it before a forward pass.
    """

    def __init__(self, model: nn.Module) -> None:
        self.mask: Tensor | None = None
        self.layers: dict[str, list[Tensor]] = {}
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
            if self.mask is not None and self.mask.shape != weights.shape[:-1]:
                raise ValueError(f"mask {tuple(self.mask.shape)} does not fit tokens {tuple(weights.shape[:-1])}")
            counted = weights.reshape(-1, weights.shape[-1]) if self.mask is None else weights[self.mask]
            self.layers.setdefault(name, []).append(counted)

        return hook

    def load(self) -> dict[str, Tensor]:
        """Per layer the mean weight of each expert, (experts,)."""
        return {name: torch.cat(weights).detach().mean(dim=0) for name, weights in self.layers.items()}

    def share_off(self) -> dict[str, Tensor]:
        """Per layer the share of tokens for which each expert's weight is exactly zero, (experts,)."""
        return {name: (torch.cat(w).detach() == 0).float().mean(dim=0) for name, w in self.layers.items()}

    def balance_loss(self) -> Tensor:
        """Mean over layers of experts * sum_i (share of tokens that prefer expert i) * (mean weight of expert i).

        The loss of Switch Transformer (Fedus et al. 2021, equation 4): 1 where all experts are used evenly, and
        `num_experts` where one takes everything. A tie goes to the first of its experts.
        """
        if not self.layers:
            raise ValueError("no router has run: the model has no expert adapter, or the context was opened too late")
        losses = []
        for kept in self.layers.values():
            weights = torch.cat(kept).float()  # a mean over many tokens needs more digits than half precision has
            num_experts = weights.shape[-1]
            chosen = torch.bincount(weights.argmax(dim=-1), minlength=num_experts) / weights.shape[0]
            losses.append(num_experts * (chosen * weights.mean(dim=0)).sum())
        return torch.stack(losses).mean()
