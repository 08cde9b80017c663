"""Random weights in the form in which the stages leave them, and a registry that holds two versions of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from components.model.assemble import build
from components.model.base import compose, load_base, save_base
from components.model.weights import save_parts
from components.tracking import registry, store


def build_tiny_model(workspace) -> None:
    """A base and a first model on it."""
    torch.manual_seed(0)
    tokens = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw: Any = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, [], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    vision = CLIPVisionModel(CLIPVisionConfig(**sizes, num_hidden_layers=6, image_size=24, patch_size=8))
    language = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, vocab_size=len(tokenizer), eos_token_id=2))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})

    shutil.rmtree(workspace.base)
    model = compose(getattr(vision, "vision_model", vision), language, tokenizer, processor, seed=1)
    save_base(workspace.base, model, tokenizer, processor, "tiny", "tiny")
    train_tiny_model(workspace, seed=1)


def train_tiny_model(workspace, seed: int) -> None:
    """Other trained parts on the same base; the adapter's weights are not zero."""
    base = load_base(workspace.base)
    torch.manual_seed(seed)
    model, wrapped = build(base, workspace.params.vce, workspace.params.adapter)
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    for name, weight in weights.items():
        if "_up." in name:
            torch.nn.init.normal_(weight, std=0.1)
    settings = {
        "base": base.reference,
        "vce": workspace.params.vce.model_dump(),
        "adapter": workspace.params.adapter.model_dump(),
        "template": "v1",
        "image": "pad",
        "run": f"finetune-tiny-{seed}",
        "data": {},
    }
    shutil.rmtree(workspace.parts)
    Path(workspace.parts).mkdir()
    save_parts(workspace.parts, settings, weights, wrapped)


def make_champion(number: int) -> None:
    """Move the alias, as a promotion does."""
    store.connect().set_registered_model_alias("lea", registry.CHAMPION, str(number))
