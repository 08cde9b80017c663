"""Tiny real models, made from configurations in a second."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from components.batching.conversation import SYSTEM
from components.model.base import compose, save_base

SPECIALS = ["<pad>", "<s>", "</s>", "<image>"]


def tiny_tokenizer() -> Any:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    core.decoder = decoders.ByteLevel()  # pyright: ignore
    texts = [f"{SYSTEM} USER: What is on the plate?\n ASSISTANT: Rice and beans. rice beans"] * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=360, special_tokens=SPECIALS, initial_alphabet=alphabet)
    )
    return wrapped(core)


def wrapped(core: Tokenizer, **more: str) -> Any:
    """A Hugging Face tokenizer around `core`, with the special tokens of the tiny base."""
    start = [("<s>", core.token_to_id("<s>"))]
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=start)  # pyright: ignore
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
        **more,
    )


def tiny_pieces(seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Encoder (16 pixels, 4 patches, 4 layers), language model (2 layers), tokenizer, image processor."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    vision = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=16,
            patch_size=8,
        )
    )
    language = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return vision, language, tokenizer, processor


def write_tiny_base(folder: Path, seed: int = 0) -> Path:
    """A base folder as the stage `base` writes it."""
    vision, language, tokenizer, processor = tiny_pieces(seed)
    folder.mkdir(parents=True)
    save_base(folder, compose(vision, language, tokenizer, processor, seed), tokenizer, processor, "compose", "tests")
    return folder


def sentencepiece_model() -> bytes:
    """A `tokenizer.model` like Llama's: BPE, bytes for what it does not know, digits one by one."""
    import sentencepiece

    model = io.BytesIO()
    texts = [f"{SYSTEM} USER: What is on the plate?\n ASSISTANT: Rice and beans. 0 1 2 3"] * 20
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(texts),
        model_writer=model,
        vocab_size=400,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return model.getvalue()
