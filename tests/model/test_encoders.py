"""Encoders of several families become a base, are enhanced by VCE and answer: CLIP, SigLIP, DINOv2, DINOv3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from components.costs.dry_run import Shape, dry_run
from components.costs.skeleton import base_config, skeleton
from components.errors import UserError
from components.images.transforms import pixel_values
from components.model.assemble import build
from components.model.base import compose, load_base
from components.model.connector import grid_of
from components.params import Params
from pipelines import base as stage
from tests.models import tiny_pieces

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 8}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
SQUARE = {"height": 24, "width": 24}
CROP: dict[str, Any] = {"size": {"shortest_edge": 24}, "crop_size": SQUARE}
PATCHES = 9
ENCODERS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "clip with its text tower": (
        lambda: CLIPModel(CLIPConfig(vision_config={**SIZES, "image_size": 24}, text_config=TEXT)),
        lambda: CLIPImageProcessorPil(**CROP),
    ),
    "siglip with its text tower": (
        lambda: SiglipModel(SiglipConfig(vision_config={**SIZES, "image_size": 24}, text_config=TEXT)),
        lambda: SiglipImageProcessorPil(size=SQUARE),
    ),
    "siglip": (
        lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=24)),
        lambda: SiglipImageProcessorPil(size=SQUARE),
    ),
    "dinov2": (  # as published: its positions are those of larger images than its processor makes
        lambda: Dinov2Model(Dinov2Config(**SIZES, image_size=40)),
        lambda: BitImageProcessorPil(**CROP),
    ),
    "dinov2 with registers": (
        lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES, image_size=24, num_register_tokens=4)),
        lambda: BitImageProcessorPil(**CROP),
    ),
    "dinov3": (
        lambda: DINOv3ViTModel(DINOv3ViTConfig(**SIZES, image_size=24, num_register_tokens=2)),
        lambda: BitImageProcessorPil(**CROP),
    ),
}


def write(folder: Path, encoder: Any, processor: Any) -> tuple[str, str]:
    """Folders of a vision encoder and a language model, as published ones look."""
    _, language, tokenizer, _ = tiny_pieces()
    encoder.save_pretrained(folder / "vision")
    processor.save_pretrained(folder / "vision")
    language.save_pretrained(folder / "language")
    tokenizer.save_pretrained(folder / "language")
    return str(folder / "vision"), str(folder / "language")


def composed(params: Params, vision: str, language: str) -> Params:
    tree = params.model_dump()
    tree["base"] |= {"kind": "compose", "compose": {"vision": vision, "language": language}}
    return Params.model_validate(tree)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_works_from_the_base_stage_to_gradients(
    name: str, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder, processor = (make() for make in ENCODERS[name])
    monkeypatch.chdir(tmp_path)
    own = composed(params, *write(tmp_path, encoder, processor))
    stage.run(own)
    base = load_base(stage.BASE)
    config = base_config(own)
    assert config.image_seq_length == base.model.config.image_seq_length
    assert config.vision_feature_select_strategy == base.model.config.vision_feature_select_strategy
    vce = params.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2})
    model, _ = build(base, vce, params.adapter)
    assert model.config.image_seq_length == PATCHES

    handed: list[torch.Tensor] = []
    connector: Any = model.model.multi_modal_projector
    connector.vce.register_forward_pre_hook(lambda _, inputs: handed.extend(inputs[0]))
    pixels = pixel_values([Image.effect_noise((50, 30), 90).convert("RGB")], base.image_processor, "pad")
    ids = torch.tensor([[1, *[model.config.image_token_id] * PATCHES, 20, 21]])
    out = model(input_ids=ids, pixel_values=pixels, labels=ids.masked_fill(ids == model.config.image_token_id, -100))
    out.loss.backward()
    assert connector.vce.norm.weight.grad.abs().sum() > 0
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    for level, patches in zip(vce.levels, handed, strict=True):
        assert torch.equal(patches, states[level][:, -PATCHES:])  # neither class token nor registers


@pytest.mark.parametrize("name", ["dinov2", "dinov3"])
def test_plan_counts_a_step_on_the_patches_that_the_processor_makes(name: str, params: Params, tmp_path: Path) -> None:
    own = composed(params, *write(tmp_path, *(make() for make in ENCODERS[name])))
    vce = own.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2, "enabled": True})
    model = skeleton(own.model_copy(update={"vce": vce}), own.adapter)
    assert dry_run(model, Shape(1, PATCHES + 6, 3, 1)).forward_flops > 0


@pytest.mark.parametrize(
    ("encoder", "processor", "line"),
    [
        (
            lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=24)),
            lambda: SiglipImageProcessorPil(size={"height": 24, "width": 16}),
            "must make square images of whole patches; it makes 24 x 16 pixels and the encoder has patches of 8",
        ),
        (
            lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=24)),
            lambda: SiglipImageProcessorPil(size={"height": 20, "width": 20}),
            "it makes 20 x 20 pixels",
        ),
        (
            lambda: CLIPModel(CLIPConfig(vision_config={**SIZES, "image_size": 16}, text_config=TEXT)).vision_model,
            lambda: CLIPImageProcessorPil(**CROP),
            "its image processor does not fit it",
        ),
    ],
)
def test_processor_that_does_not_fit_the_encoder_is_refused(encoder: Any, processor: Any, line: str) -> None:
    _, language, tokenizer, _ = tiny_pieces()
    with pytest.raises(UserError, match=line) as mistake:
        compose(encoder(), language, tokenizer, processor(), seed=0)
    assert "\n" not in str(mistake.value)


def test_features_that_are_no_square_grid_are_refused() -> None:
    assert grid_of(36) == (6, 6)
    with pytest.raises(UserError, match="8 features of an image are no square grid"):
        grid_of(8)


def test_cropping_takes_the_middle_whatever_the_processor_does() -> None:
    image = Image.new("RGB", (72, 24), "white")
    image.paste("black", (0, 0, 24, 24))
    image.paste("black", (48, 0, 72, 24))
    for processor in (CLIPImageProcessorPil(**CROP), SiglipImageProcessorPil(size=SQUARE)):
        pixels = pixel_values([image], processor, "crop")
        assert pixels.shape == (1, 3, 24, 24)
        assert pixels.std(dim=(0, 2, 3)).max() < 1e-5
