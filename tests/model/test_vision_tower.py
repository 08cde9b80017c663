from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    Dinov2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
)

from components.model.vision_tower import remember_features, stop_after_last_level

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
TOWERS: dict[str, Any] = {
    "clip": (CLIPVisionConfig, "default"),
    "siglip": (SiglipVisionConfig, "full"),
    "dinov2": (Dinov2Config, "default"),
}


def llava(tower: str, levels: int | list[int]) -> LlavaForConditionalGeneration:
    vision, strategy = TOWERS[tower]
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision(**SIZES),
        text_config=LlamaConfig(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        ),
        vision_feature_layer=levels,
        vision_feature_select_strategy=strategy,
    )
    return LlavaForConditionalGeneration(config).eval()


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize(("levels", "unused"), [(-2, 1), ([-2, -4], 1), ([-3, -5], 2), (-1, 0), (2, 3)])
def test_features_stay_the_same_without_the_unused_blocks(tower: str, levels: int | list[int], unused: int) -> None:
    model = llava(tower, levels)
    pixels = torch.randn(2, 3, 16, 16)

    def features() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat(list(model.model.get_image_features(pixel_values=pixels).pooler_output))  # pyright: ignore

    before = features()
    assert stop_after_last_level(model) == unused
    assert torch.equal(features(), before)
    assert stop_after_last_level(model) == 0


def test_tower_leaves_no_graph_behind() -> None:
    model = llava("clip", -2)
    model.requires_grad_(False)
    model.model.multi_modal_projector.requires_grad_(True)
    seen: list[bool] = []
    for block in model.model.vision_tower.modules():
        block.register_forward_hook(lambda *call: seen.append(getattr(call[2], "requires_grad", False)))
    image: Any = model.model.get_image_features(pixel_values=torch.randn(1, 3, 16, 16))
    assert seen
    assert not any(seen)
    assert image.pooler_output[0].requires_grad


def features_of(model: LlavaForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(list(model.model.get_image_features(pixel_values=pixels).pooler_output))  # pyright: ignore


@pytest.mark.parametrize("tower", TOWERS)
def test_remembered_features_serve_every_model_of_the_base_and_no_other_batch(tower: str) -> None:
    known: dict[bytes, dict[int, torch.Tensor]] = {}
    pixels, others = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16)
    for levels in ([-3, -5], -3, [-2, -3]):
        plain, model = llava(tower, levels), llava(tower, levels)
        for one in (plain, model):
            stop_after_last_level(one)
        remember_features(model, known, lambda tensors: True)
        for shown in (pixels, others, pixels):
            assert torch.equal(features_of(model, shown), features_of(plain, shown))
    assert {frozenset(of) for of in known.values()} == {frozenset({1, 3, 4})}
    assert len(known) == 2


def test_features_are_not_kept_where_there_is_no_room_or_the_tower_drops_out() -> None:
    pixels = torch.randn(1, 3, 16, 16)
    model, known = llava("clip", -2), {}
    stop_after_last_level(model)
    remember_features(model, known, lambda tensors: False)
    before = features_of(model, pixels)
    assert torch.equal(features_of(model, pixels), before)
    model = llava("clip", -2)
    stop_after_last_level(model)
    model.config.vision_config.attention_dropout = 0.1  # pyright: ignore
    model.model.vision_tower.config.attention_dropout = 0.1
    remember_features(model, known, lambda tensors: True)
    features_of(model, pixels)
    assert not known
