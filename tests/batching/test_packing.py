from __future__ import annotations

from typing import Any

import pytest
import torch

from components.batching.conversation import IGNORED, Encoded
from components.batching.packing import pack, pad, tree_block_mask
from components.batching.tree import tree_mask
from components.model.assemble import build
from components.model.base import Base, compose
from components.params import Params
from components.training.loss import SupervisedLoss
from tests.models import tiny_pieces

IMAGE = 3


def sample(
    question: list[int], answer: list[int], prefix: tuple[int, ...] = (1, 9, IMAGE, IMAGE, IMAGE, IMAGE)
) -> Encoded:
    ids = [*prefix, *question, *answer]
    return Encoded(ids, [IGNORED] * (len(prefix) + len(question)) + answer)


THREE = [sample([20, 21, 22], [30, 31, 2]), sample([20, 24], [40, 41, 42, 43, 2]), sample([25, 26], [50, 2])]


def test_prefix_stands_once_and_positions_restart() -> None:
    packed = pack(THREE)
    assert packed.ids.count(IMAGE) == 4
    assert packed.segments == [0] * 6 + [1] * 6 + [2] * 7 + [3] * 4
    assert packed.positions == [*range(12), *range(6, 13), *range(6, 10)]
    assert [label for label in packed.labels if label != IGNORED] == [30, 31, 2, 40, 41, 42, 43, 2, 50, 2]


def test_first_token_of_every_branch_is_predicted_by_the_end_of_the_prefix() -> None:
    # plain template: the caption follows the image directly, so branches start with a label
    packed = pack([sample([], [30, 31, 2]), sample([], [30, 40, 2])])
    starts = [n for n in range(1, len(packed.ids)) if packed.segments[n] != packed.segments[n - 1]]
    assert starts == [6, 9]
    assert [packed.previous[start] for start in starts] == [5, 5]
    assert [packed.labels[start] for start in starts] == [30, 30]
    assert packed.previous[7:9] == [6, 7]


def test_mask_hides_branches_and_padding_from_each_other() -> None:
    packed = [pack(THREE), pack(THREE[:1])]
    segments = pad(packed, filler=2)["segments"]
    mask = tree_mask(segments)[:, 0]
    for row, one in enumerate(segments.tolist()):
        for here, mine in enumerate(one):
            for there, theirs in enumerate(one):
                allowed = there <= here and theirs in (0, mine) and theirs >= 0
                assert mask[row, here, there] == (allowed or here == there)


@pytest.mark.parametrize("kind", ["lora", "dual_lora", "lora_moe", "rode"])
@pytest.mark.parametrize("plain", [False, True])
def test_loss_and_gradients_equal_those_of_separate_samples(params: Params, kind: str, plain: bool) -> None:
    vce = params.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2})
    adapter = params.adapter.model_copy(update={"kind": kind, "dropout": 0.0})
    vision, language, tokenizer, processor = tiny_pieces()
    model = compose(vision, language, tokenizer, processor, seed=0).double()
    torch.manual_seed(3)
    model, _ = build(Base(model, tokenizer, processor, {}), vce, adapter)
    model.double().train()
    for parameter in model.parameters():
        if parameter.requires_grad:  # a fresh adapter's zeros would hide half of the gradients
            torch.nn.init.normal_(parameter, std=0.1)
    samples = [sample([], [30, 31, 2]), sample([], [30, 40, 41, 2])] if plain else THREE
    other = sample([60, 61], [62, 2], prefix=(1, 9))  # text only
    image = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    loss = SupervisedLoss(model)

    def gradients(sequences: list[Any], images: int) -> tuple[float, dict[str, torch.Tensor]]:
        model.zero_grad()
        value = loss(pad(sequences, filler=2), image.expand(images, -1, -1, -1))
        value.backward()
        return value.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    shared_loss, shared = gradients([pack(samples), pack([other])], 1)
    separate_loss, separate = gradients([*(pack([one]) for one in samples), pack([other])], len(samples))
    assert shared_loss == pytest.approx(separate_loss, rel=1e-6)
    assert shared.keys() == separate.keys()
    assert len(shared) > 10
    for name, gradient in separate.items():
        scale = gradient.norm() + 1e-12
        assert (shared[name] - gradient).norm() / scale < 1e-6, name  # norms and rotations are fp32 in any case


def test_block_mask_for_flex_attention_hides_the_same() -> None:
    from torch.nn.attention.flex_attention import create_mask

    segments = pad([pack(THREE), pack(THREE[:1])], filler=2)["segments"]
    block = tree_block_mask(segments)
    rows, size = segments.shape
    assert torch.equal(create_mask(block.mask_mod, rows, None, size, size, device="cpu"), tree_mask(segments))


def test_padding_to_few_lengths_changes_neither_loss_nor_gradients(params: Params) -> None:
    vision, language, tokenizer, processor = tiny_pieces()
    model = compose(vision, language, tokenizer, processor, seed=0)
    model, _ = build(Base(model, tokenizer, processor, {}), None, params.adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    module, pixels = SupervisedLoss(model.eval()), torch.randn(2, 3, 16, 16)
    packed, found = [pack(THREE), pack(THREE[:1])], []
    for multiple in (1, 64):
        tokens = {**pad(packed, 2, multiple), "has_image": torch.ones(2, dtype=torch.bool)}
        assert tokens["ids"].shape[1] == (23 if multiple == 1 else 64)
        loss = module(tokens, pixels)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        found.append((loss.detach(), gradients))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
