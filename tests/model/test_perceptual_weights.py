"""The perceptual weights generator against its published sizes and a naive twin."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from components.model.perceptual_weights import PerceptualWeightsGenerator

LLAMA = dict.fromkeys("qkvom", (4096, 4096))


@pytest.mark.parametrize(("width", "parameters"), [(512, 851_891_712), (1024, 2_027_531_264)])
def test_published_layouts_have_the_published_sizes(width: int, parameters: int) -> None:
    # VLoRA (Ma et al. 2024), section 4.1, and its public pretraining script
    with torch.device("meta"):
        generator = PerceptualWeightsGenerator(1024, 576, LLAMA, 8, width=width)
    assert sum(p.numel() for p in generator.parameters()) == parameters


def small(**changes: Any) -> PerceptualWeightsGenerator:
    torch.manual_seed(1)
    settings = {"width": 8, "rank": 3, "blocks": 2, "heads": 2, **changes}
    generator = PerceptualWeightsGenerator(6, 4, {"q": (10, 10), "v": (10, 5)}, 3, **settings).double()
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return generator


def norm(x: Tensor, layer: Any) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def attend(queries: Tensor, memory: Tensor, layer: Any) -> Tensor:
    """One head after the other, one query after the other."""
    width, heads = queries.shape[-1], layer.num_heads
    (wq, wk, wv), (bq, bk, bv) = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    q, k, v = queries @ wq.T + bq, memory @ wk.T + bk, memory @ wv.T + bv
    out = torch.zeros_like(queries)
    size = width // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for place in range(len(queries)):
            scores = torch.stack([q[place, part] @ key[part] for key in k]) / math.sqrt(size)
            shares = scores.exp() / scores.exp().sum()
            out[place, part] = sum(share * value[part] for share, value in zip(shares, v, strict=True))
    return out @ layer.out_proj.weight.T + layer.out_proj.bias


def naive(generator: PerceptualWeightsGenerator, features: Tensor) -> dict[str, Tensor]:
    made = {}
    for name, kind in generator.types.items():
        found: Any = kind
        images = []
        for image in features:
            memory = image @ generator.shared.weight.T + generator.shared.bias + generator.position
            x = found.queries
            for block in found.decoder.layers:
                inside = norm(x, block.norm1)
                x = x + attend(inside, inside, block.self_attn)
                x = x + attend(norm(x, block.norm2), memory, block.multihead_attn)
                wide = norm(x, block.norm3) @ block.linear1.weight.T + block.linear1.bias
                wide = wide * 0.5 * (1 + torch.erf(wide / math.sqrt(2)))
                x = x + wide @ block.linear2.weight.T + block.linear2.bias
            flat = norm(x, found.decoder.norm) @ found.down.weight.T + found.down.bias
            images.append(flat.reshape(len(flat), -1, found.rank))
        made[name] = torch.stack(images)
    return made


def test_formula_equals_a_naive_twin_in_float64() -> None:
    generator = small()
    features = torch.randn(2, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        expected = naive(generator, features)
        for mode in (True, False):
            made = generator.train(mode)(features)
            assert made.keys() == expected.keys()
            for name, a in made.items():
                assert a.shape == (2, 3, 10, 3)
                torch.testing.assert_close(a, expected[name], rtol=1e-9, atol=1e-9)


def test_feed_forward_is_four_times_as_wide() -> None:
    assert small().types["q"].decoder.layers[0].linear1.out_features == 32  # pyright: ignore


def test_fresh_weights_start_as_in_vloras_public_code() -> None:
    """Positions with a spread of 1, the head that makes A with 0.02: 0.45 at the published width of 512."""
    torch.manual_seed(0)
    generator = PerceptualWeightsGenerator(16, 99, {"q": (96, 96)}, 4, width=32, rank=16, blocks=2, heads=4)
    with torch.no_grad():
        a = generator(torch.randn(2, 99, 16))["q"]
    assert generator.position.std().item() == pytest.approx(1, rel=0.05)
    assert a.std().item() == pytest.approx(0.02 * math.sqrt(32), rel=0.05)
    assert all(not up.weight.any() for up in generator.types["q"].up)  # pyright: ignore
    first, second = (layer.linear1.weight for layer in generator.types["q"].decoder.layers)  # pyright: ignore
    assert not torch.equal(first, second)
