"""The model that the settings describe, on the meta device: every shape, no weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from components.errors import UserError
from components.model.assemble import build, recompute_blocks, to_precision, trainable_groups
from components.model.base import Base, count_features, load_image_processor
from components.model.hub import nearest
from components.model.language import check_structure
from components.model.vision_tower import stop_after_last_level
from components.params import Adapter, Params

# The published configurations of models by hub id, so that a plan needs no network.
_CLIP_L_336 = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
_LLAMA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
_LLAMA_13B = {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40}
VISION: dict[str, dict[str, Any]] = {"openai/clip-vit-large-patch14-336": _CLIP_L_336}
LANGUAGE: dict[str, dict[str, Any]] = {
    "lmsys/vicuna-7b-v1.5": {**_LLAMA_7B, "vocab_size": 32000},
    "lmsys/vicuna-13b-v1.5": {**_LLAMA_13B, "vocab_size": 32000},
}
LLAVA: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # vision, language; the vocabulary with the added tokens
    "llava-hf/llava-1.5-7b-hf": (_CLIP_L_336, {**_LLAMA_7B, "vocab_size": 32064}),
    "llava-hf/llava-1.5-13b-hf": (_CLIP_L_336, {**_LLAMA_13B, "vocab_size": 32064}),
}


SHALLOW = (2, 4)  # blocks
Learnt = Adapter | Literal["language_model"] | None  # beside the connector
Count = Callable[[LlavaForConditionalGeneration], Sequence[int]]


def skeleton(
    params: Params, learnt: Learnt, blocks: int | None = None, *, as_released: bool = False
) -> LlavaForConditionalGeneration:
    """The base with connector and what is learnt beside it, in the precision of training.

    blocks: of a shallower language model. as_released: with the vision blocks that nobody reads and training removes.
    """
    vlora = params.connector.chosen_vlora
    config = base_config(params)
    if blocks:
        config.text_config.num_hidden_layers = blocks  # pyright: ignore
    with torch.device("meta"):
        base = Base(bare(config), None, None, {})
        vce = params.vce if params.vce.enabled else None
        if learnt == "language_model":
            model, _ = build(base, vce, None, vlora, train_language_model=True)
        else:
            model, _ = build(base, vce, learnt, vlora)
    if not as_released:
        stop_after_last_level(model)
    if params.training.activation_checkpointing:
        recompute_blocks(model)
    return to_precision(model, params.training.precision)


def at_full_depth(params: Params, learnt: Learnt, count: Count) -> list[int]:
    """What `count` says of the whole model, from two shallow ones: all blocks of the language model cost the same, so
    numbers lie on a line over its depth. A dry run of 32 blocks takes ten times as long.
    """
    depth: int = base_config(params).text_config.num_hidden_layers  # pyright: ignore
    vlora = params.connector.chosen_vlora
    every = vlora.every if vlora else 1  # a depth holds whole rounds of the blocks that images change
    shallow = [-(-blocks // every) * every for blocks in SHALLOW]
    shallow[1] = max(shallow[1], 2 * shallow[0])
    if depth <= max(shallow):
        return list(count(skeleton(params, learnt)))
    first, second = (count(skeleton(params, learnt, blocks)) for blocks in shallow)
    more = (depth - shallow[0]) / (shallow[1] - shallow[0])
    return [round(a + more * (b - a)) for a, b in zip(first, second, strict=True)]


def bare(config: LlavaConfig) -> LlavaForConditionalGeneration:
    """A LLaVA without connector of ours or adapter, on the meta device."""
    with torch.device("meta"):
        return LlavaForConditionalGeneration(config)


def parameters_by_part(model: LlavaForConditionalGeneration) -> dict[str, tuple[int, bool]]:
    """Parameters by part, and whether they are trained. A frozen part has what no trained part has of it."""
    trained = trainable_groups(model)
    frozen = {
        "vision tower": model.model.vision_tower,
        "language model": torch.nn.ModuleList([model.model.language_model, model.lm_head]),
    }
    counts = {
        name: (sum(p.numel() for p in module.parameters() if not p.requires_grad), False)
        for name, module in frozen.items()
    }
    counts |= {name.replace("_", " "): (sum(p.numel() for _, p in group), True) for name, group in trained.items()}
    return {name: count for name, count in counts.items() if count[0]}


def base_config(params: Params) -> LlavaConfig:
    """The base's configuration: of `tiny` from params.yaml, of others from the table, a folder or the hub."""
    base = params.base
    if base.kind == "checkpoint":
        name = base.checkpoint.model
        if name not in LLAVA:
            return _read(name, "base.checkpoint.model", revision=base.checkpoint.revision)
        return llava_config(*LLAVA[name])
    if base.kind == "compose":
        name = base.compose.vision
        encoder: Any = CLIPVisionConfig(**VISION[name]) if name in VISION else _read(name, "base.compose.vision")
        encoder = getattr(encoder, "vision_config", encoder)
        features = _clip_features(encoder) if name in VISION else _features(encoder, name)
        name = base.compose.language
        causal: Any = LlamaConfig(**LANGUAGE[name]) if name in LANGUAGE else _language(name)
        causal.vocab_size += 1  # the image marker
        return _join(encoder, causal, *features)
    tiny = base.tiny
    encoder = CLIPVisionConfig(
        hidden_size=tiny.vision.width,
        intermediate_size=3 * tiny.vision.width,
        num_hidden_layers=tiny.vision.layers,
        num_attention_heads=tiny.vision.heads,
        image_size=params.plates.image_size,
        patch_size=tiny.vision.patch_size,
    )
    causal = LlamaConfig(
        hidden_size=tiny.language.width,
        intermediate_size=3 * tiny.language.width,
        num_hidden_layers=tiny.language.layers,
        num_attention_heads=tiny.language.heads,
        vocab_size=tiny.language.vocabulary,
    )
    return _join(encoder, causal, *_clip_features(encoder))


def llava_config(vision: dict[str, Any], language: dict[str, Any]) -> LlavaConfig:
    """Of a CLIP and a Llama by their sizes, as they stand in the tables above."""
    encoder = CLIPVisionConfig(**vision)
    return _join(encoder, LlamaConfig(**language), *_clip_features(encoder))


def _clip_features(vision: CLIPVisionConfig) -> tuple[int, int]:
    """Patches of an image and tokens before them; CLIP's processor makes images of the encoder's own size."""
    return (vision.image_size // vision.patch_size) ** 2, 1  # pyright: ignore[reportOperatorIssue]


def _features(vision: Any, name: str) -> tuple[int, int]:
    """As `base` counts them, with the encoder's own image processor."""
    with torch.device("meta"):
        encoder = AutoModel.from_config(vision)
    return count_features(encoder, load_image_processor(name, "base.compose.vision"))


def _language(name: str) -> Any:
    """The configuration of a language model that can be part of a base."""
    config = _read(name, "base.compose.language")
    with torch.device("meta"):
        check_structure(AutoModelForCausalLM.from_config(config))
    return config


def _join(vision: Any, language: Any, patches: int, leading: int) -> LlavaConfig:
    return LlavaConfig(
        vision_config=vision,
        text_config=language,
        image_token_index=language.vocab_size - 1,
        image_seq_length=patches,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default" if leading else "full",
    )


def _read(name: str, setting: str, **options: Any) -> Any:
    try:
        near = nearest(name, options.get("revision"))
        return AutoConfig.from_pretrained(near, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        known = ", ".join([*LLAVA] if "checkpoint" in setting else [*VISION, *LANGUAGE])
        what = "holds no config.json" if Path(name).is_dir() else "cannot be read from the hub"
        raise UserError(
            f"params.yaml: {setting} {name!r} {what} ({str(error).strip().splitlines()[0].removesuffix('.')}); "
            f"give a folder in Hugging Face's format or one whose sizes are known here: {known}"
        ) from None
