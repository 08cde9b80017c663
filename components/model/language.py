"""Which language models can be part of a base. Nobody would notice the others: they train, and learn something else.

LLaVA in transformers runs `lm_head(language_model(embeddings))`, and no scale, bias or cap after it. Samples of one
image hide from each other by a mask (batching/packing.py), and prompts are read piece by piece with padding between
(evaluation/inference/answering.py). Layers that hand a state from token to token, as Mamba's or short convolutions,
heed neither; a sliding window is none of that mask's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from components.errors import UserError

SCALES = ("logits_scaling", "logit_scale", "final_logit_softcapping")  # of configurations: what follows an lm_head
CLOSE = {torch.float32: 1e-4}  # of the largest logit; half precision: 2e-2


def check_language(language: PreTrainedModel) -> None:
    """UserError unless LLaVA computes what this causal language model does."""
    check_structure(language)
    if not _ends_with_its_head(language):
        config = language.config
        said = ", ".join(f"{key} {getattr(config, key)}" for key in SCALES if getattr(config, key, None) is not None)
        raise UserError(
            f"{_name(config)}: its logits are not its lm_head's output ({said or 'something follows it'}), and LLaVA "
            "applies nothing after lm_head; choose a model without it"
        )


def check_structure(language: PreTrainedModel) -> None:
    """The same as far as it can be seen without weights: the model may be on the meta device."""
    name = _name(language.config)
    inner, head = getattr(language, "model", None), getattr(language, "lm_head", None)
    plain = isinstance(head, nn.Linear) and head.bias is None
    if not (plain and isinstance(getattr(inner, "embed_tokens", None), nn.Embedding)):
        raise UserError(
            f"{name}: a {type(language).__name__} is not built as LLaVA needs it (model.embed_tokens, and an lm_head "
            "without bias); choose a model of another family, such as Llama, Mistral, Qwen or SmolLM"
        )
    check_layers(language.config, name)


def check_layers(config: Any, name: str) -> None:
    """UserError where a layer keeps a state instead of keys and values. name: of the setting that chose the model."""
    if any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in DynamicCache(config=config).layers):
        raise UserError(
            f"{name}: {config.get_text_config().model_type} has recurrent or convolutional layers, which see past the "
            "mask between samples that share an image; choose a language model of attention alone"
        )


def check_precision(config: Any, name: str) -> None:
    """UserError where weights are stored as codes of a few bits, which training would take for their values."""
    quantized = getattr(config, "quantization_config", None)
    if quantized:
        how = quantized.get("quant_method") if isinstance(quantized, dict) else type(quantized).__name__
        raise UserError(
            f"{name}: its weights are quantized ({how}), and a base is read in 16 or 32 bits; give the model that it "
            "was made from"
        )


def window_of(config: Any) -> int | None:
    """The tokens that the language model looks back in the layer that looks back least; None where all is seen."""
    layers: Any = DynamicCache(config=config).layers
    return min((layer.sliding_window for layer in layers if getattr(layer, "is_sliding", False)), default=None)


def check_window(config: Any, max_length: int, setting: str) -> None:
    """UserError where samples may be longer than the language model looks back. setting: that of `max_length`."""
    window = window_of(config)
    if window is not None and max_length > window:
        raise UserError(
            f"params.yaml: {setting} {max_length} is more than the {window} tokens that the base's language model "
            f"looks back (its sliding window): training would look further; set {setting} to {window} at most"
        )


def _name(config: Any) -> str:
    return f"params.yaml: base.compose.language {config._name_or_path or config.model_type!r}"


def _ends_with_its_head(language: Any) -> bool:
    """Whether the logits of a few tokens are what lm_head makes of the last hidden states."""
    was_training = language.training
    language.eval()
    with torch.no_grad():
        ids = torch.arange(min(8, language.config.vocab_size), device=language.device)[None]
        wanted = language(input_ids=ids, use_cache=False).logits.float()
        found = language.lm_head(language.model(input_ids=ids, use_cache=False).last_hidden_state).float()
    language.train(was_training)
    return float((wanted - found).abs().max()) <= CLOSE.get(language.dtype, 2e-2) * float(wanted.abs().max())
