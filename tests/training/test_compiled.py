"""Blocks of the language model, compiled, beside the blocks as they are."""

from __future__ import annotations

import pytest
import torch

from components.costs.dry_run import Shape, inputs
from components.errors import UserError
from components.model.assemble import build, compile_blocks, recompute_blocks
from components.model.base import Base, compose
from components.params import Params, validate_params
from components.training.loss import SupervisedLoss
from tests.models import tiny_pieces


def _losses_and_gradients(params: Params, compiled: bool, recomputed: bool = False) -> tuple[list[float], dict]:
    model = compose(*tiny_pieces(), seed=0)
    torch.manual_seed(5)
    model, _ = build(Base(model, None, None, {}), None, params.adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    if recomputed:
        recompute_blocks(model)
    if compiled:
        compile_blocks(model)
    module, losses = SupervisedLoss(model.eval()), []
    for tokens in (64, 128):
        batch, pixels = inputs(model, Shape(2, tokens, 16, 2), torch.device("cpu"))
        assert pixels is not None
        loss = module(batch, torch.linspace(-1, 1, pixels.numel()).view(pixels.shape))
        loss.backward()
        losses.append(loss.item())
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.parametrize("recomputed", [False, True])
def test_compiled_blocks_give_the_same_loss_and_gradients(params: Params, recomputed: bool) -> None:
    losses, gradients = _losses_and_gradients(params, compiled=False)
    again, compiled = _losses_and_gradients(params, compiled=True, recomputed=recomputed)
    assert again == pytest.approx(losses, rel=1e-5)
    assert compiled.keys() == gradients.keys()
    for name, wanted in gradients.items():
        torch.testing.assert_close(compiled[name], wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))


def test_zero_3_refuses_compiled_blocks(params: Params) -> None:
    tree = params.model_dump()
    tree["training"] |= {"compile_blocks": True, "zero_stage": 3}
    with pytest.raises(UserError, match="compile_blocks must be false with zero_stage 3"):
        validate_params(tree)
