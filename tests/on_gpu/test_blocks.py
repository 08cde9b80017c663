"""The blocks' small work on a GPU: kernels and their twins, alone and in a whole model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from components.model import blocks
from tests.on_gpu.conftest import ON_CPU

pytestmark = pytest.mark.gpu


@pytest.mark.skipif(ON_CPU, reason="tests/model/test_blocks.py runs them by Triton's interpreter")
@pytest.mark.parametrize("dtype", list(blocks.CLOSE))
def test_kernels_build_and_agree_with_their_twins(dtype: torch.dtype, device: torch.device) -> None:
    from components.model import block_kernels

    for tokens, width in ((1, 64), (37, 48), (500, 128), (16, 80)):
        assert blocks.differences(block_kernels, device, dtype, tokens, width) < blocks.CLOSE[dtype]
    assert blocks._checked(device, dtype) is block_kernels


def test_model_has_the_loss_and_gradients_of_transformers_own_blocks(device: torch.device) -> None:
    from components.model.assemble import build
    from components.model.base import Base, compose
    from components.params import load_params
    from components.training.loss import SupervisedLoss
    from tests.models import tiny_pieces
    from tests.on_gpu.test_training import ROOT, batch_of

    torch.manual_seed(0)
    params = load_params(ROOT / "params.yaml")
    fused, _ = build(Base(compose(*tiny_pieces(), seed=0), None, None, {}), None, params.adapter)
    fused.to(device).eval()  # pyright: ignore
    plain = copy.deepcopy(fused)
    blocks.unfuse(plain)
    assert not any(isinstance(module, tuple(blocks.FUSED.values())) for module in plain.modules())
    batch = batch_of(0)
    assert batch.pixel_values is not None
    found: list[tuple[Any, ...]] = []
    for model in (fused, plain):
        tokens = {name: tensor.to(device) for name, tensor in batch.tokens.items()}
        loss = SupervisedLoss(model)(tokens, batch.pixel_values.to(device))
        loss.backward()
        gradients = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
        found.append((loss, torch.cat(gradients)))
    (loss, gradient), (wanted, theirs) = found
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert (gradient - theirs).norm() < 1e-5 * theirs.norm()
