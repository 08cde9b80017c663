"""A base is read whole: transformers would draw the weights that its files lack, at random, and go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from components.errors import UserError
from components.model.base import load_base, load_pieces, refer_to_checkpoint
from tests.models import tiny_tokenizer, write_tiny_base

Tensors = dict[str, torch.Tensor]
SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
PIXELS: dict[str, Any] = {"image_size": 16, "patch_size": 8}
CLIP = CLIPConfig(vision_config={**SIZES, **PIXELS}, text_config={**SIZES, "vocab_size": 50})
ENCODERS: dict[str, Callable[[], Any]] = {
    "clip": lambda: CLIPModel(CLIP),
    "siglip": lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES, **PIXELS)),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SIZES, **PIXELS)),
}


def change_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {n: t for n, t in tensors.items() if not any(part in n for part in parts)}


def cut(tensors: Tensors) -> Tensors:
    return {n: t[:-1].contiguous() if n.endswith("layers.0.self_attn.q_proj.weight") else t for n, t in tensors.items()}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (without("language_model.model.layers.1.mlp"), r"are not in its files \(model.language_model.*and 2 more\)"),
        (lambda tensors: {f"module.{n}": t for n, t in tensors.items()}, "are not in its files"),
        (cut, "have another shape than its config.json says"),
    ],
)
def test_checkpoint_whose_weights_are_not_whole_is_refused(
    change: Callable[[Tensors], Tensors], line: str, tmp_path: Path
) -> None:
    folder = write_tiny_base(tmp_path / "llava")
    (folder / "base.json").unlink()
    (tmp_path / "base").mkdir()
    refer_to_checkpoint(tmp_path / "base", str(folder), None)
    load_base(tmp_path / "base")
    change_weights(folder, change)
    with pytest.raises(UserError, match=f"params.yaml: base.checkpoint.model .*llava': weights {line}") as mistake:
        load_base(tmp_path / "base")
    assert "\n" not in str(mistake.value)


def pieces(folder: Path, encoder: str) -> tuple[str, str]:
    torch.manual_seed(0)
    ENCODERS[encoder]().save_pretrained(folder / "vision")
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder / "vision")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder / "language")
    tied = LlamaConfig(**SIZES, vocab_size=len(tokenizer), tie_word_embeddings=True, pad_token_id=0)
    LlamaForCausalLM(tied).save_pretrained(folder / "language")
    return str(folder / "vision"), str(folder / "language")


UNREAD = {"clip": ["text_model", "visual_projection"], "siglip": ["head", "post_layernorm"], "dinov2": ["pooler"]}
READ = {"clip": "pre_layrnorm", "siglip": "embeddings.position", "dinov2": "layer.1.mlp"}


@pytest.mark.parametrize("encoder", list(ENCODERS))
def test_encoder_may_lack_what_nothing_reads_and_nothing_else(encoder: str, tmp_path: Path) -> None:
    vision, language = pieces(tmp_path, encoder)
    change_weights(Path(vision), without(*UNREAD[encoder]))
    load_pieces(vision, language, 0)  # tied: the head's weight is in no file
    change_weights(Path(vision), without(READ[encoder]))
    with pytest.raises(UserError, match=f"base.compose.vision .*are not in its files .*{READ[encoder]}"):
        load_pieces(vision, language, 0)


def test_language_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    vision, language = pieces(tmp_path, "clip")
    change_weights(Path(language), without("layers.1.mlp.up_proj"))
    with pytest.raises(UserError, match=r"base.compose.language .*are not in its files \(.*up_proj.weight\)"):
        load_pieces(vision, language, 0)
    config = Path(language) / "config.json"
    more = json.loads(config.read_text(encoding="utf-8")) | {"num_hidden_layers": 3}
    config.write_text(json.dumps(more), encoding="utf-8")
    with pytest.raises(UserError, match="are not in its files"):
        load_pieces(vision, language, 0)


@pytest.mark.parametrize("method", ["bitsandbytes", "fp8"])
def test_quantized_checkpoint_is_refused_before_anything_is_loaded(method: str, tmp_path: Path) -> None:
    folder = write_tiny_base(tmp_path / "llava")
    (folder / "base.json").unlink()
    config = folder / "config.json"
    more = json.loads(config.read_text(encoding="utf-8")) | {"quantization_config": {"quant_method": method}}
    config.write_text(json.dumps(more), encoding="utf-8")
    with pytest.raises(UserError, match=rf"base.checkpoint.model .*llava: its weights are quantized \({method}\)"):
        refer_to_checkpoint(tmp_path, str(folder), None)
