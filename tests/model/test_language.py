"""Language models that LLaVA, or the mask between samples of one image, would compute otherwise are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn.functional import cross_entropy

from components.batching.conversation import IGNORED, Encoded
from components.batching.packing import pack, pad
from components.costs.plan import plan
from components.costs.skeleton import base_config
from components.errors import UserError
from components.model.base import compose, refer_to_checkpoint
from components.model.language import check_layers, check_window
from components.params import Params
from components.training.loss import SupervisedLoss
from tests.models import tiny_pieces

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 300,
}
MAMBA: dict[str, Any] = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}


def language_model(family: str, config: str = "", **more: Any) -> Any:
    torch.manual_seed(0)
    settings = getattr(transformers, config or f"{family}Config")(**{**SIZES, **more})
    model = getattr(transformers, f"{family}ForCausalLM")(settings)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def composed(language: Any) -> Any:
    vision, _, tokenizer, processor = tiny_pieces()
    return compose(vision, language, tokenizer, processor, seed=0).eval()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: language_model("Granite", logits_scaling=8.0), r"'granite': its logits are not .*logits_scaling 8"),
        (lambda: language_model("Gemma2", head_dim=16), "final_logit_softcapping 30"),
        (lambda: language_model("Cohere"), "logit_scale 0.0625"),
        (lambda: language_model("Phi"), "a PhiForCausalLM is not built as LLaVA needs it"),
        (lambda: language_model("GPTNeoX"), "a GPTNeoXForCausalLM is not built as LLaVA needs it"),
        (lambda: language_model("Lfm2", layer_types=["conv", "full_attention"]), "lfm2 has recurrent"),
        (lambda: language_model("Bamba", attn_layer_indices=[1], **MAMBA), "bamba has recurrent"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused_in_one_line(make: Callable[[], Any], line: str) -> None:
    with pytest.raises(UserError, match=f"params.yaml: base.compose.language .*{line}") as mistake:
        composed(make())
    assert "\n" not in str(mistake.value)


FITTING: list[tuple[str, str, dict[str, Any]]] = [
    *((family, "", {}) for family in ("Mistral", "Qwen2", "Olmo2", "StableLm")),
    *((family, "", {"pad_token_id": 0}) for family in ("Phi3", "SmolLM3")),
    ("Qwen3", "", {"head_dim": 16}),
    ("Gemma3", "Gemma3TextConfig", {"head_dim": 16}),
    ("Gemma2", "", {"head_dim": 16, "final_logit_softcapping": None}),  # its attention is eager: no other caps scores
]


@pytest.mark.parametrize(("family", "config", "more"), FITTING)
def test_loss_of_samples_with_a_common_start_is_the_language_model_s_own(
    family: str, config: str, more: dict[str, Any]
) -> None:
    language = language_model(family, config, **more)
    model = composed(language)  # gives the language model the image marker too
    start, answers = list(range(20, 40)), ([50, 51, 52, 2], [60, 61, 2])
    samples = [Encoded(start + answer, [IGNORED] * len(start) + answer) for answer in answers]
    expected = 0.0
    with torch.no_grad():
        for sample in samples:
            logits = language(torch.tensor([sample.ids])).logits[0, :-1].float()
            expected += cross_entropy(logits, torch.tensor(sample.labels[1:]), reduction="sum").item()
        tokens = {**pad([pack(samples)], 2), "has_image": torch.tensor([False])}
        found = SupervisedLoss(model)(tokens, None).item()
    assert found == pytest.approx(expected, rel=1e-4)


def test_half_precision_alone_is_no_reason_to_refuse() -> None:
    composed(language_model("Llama").to(torch.bfloat16))


def test_samples_longer_than_a_sliding_window_are_refused() -> None:
    config = language_model("Mistral", sliding_window=8).config
    check_window(config, 8, "finetune.max_length")
    check_window(language_model("Llama").config, 4096, "finetune.max_length")
    with pytest.raises(UserError, match=r"finetune.max_length 9 is more than the 8 tokens .* set .* to 8 at most"):
        check_window(config, 9, "finetune.max_length")


def test_checkpoint_with_recurrent_layers_is_refused(tmp_path: Path) -> None:
    text = transformers.Lfm2Config(**SIZES, layer_types=["conv", "full_attention"])
    transformers.LlavaConfig(text_config=text).save_pretrained(tmp_path / "llava")
    with pytest.raises(UserError, match=r"base.checkpoint.model .*llava: lfm2 has recurrent"):
        refer_to_checkpoint(tmp_path, str(tmp_path / "llava"), None)
    check_layers(transformers.LlavaConfig(), "a name")


def test_plan_refuses_what_the_base_will(params: Params, tmp_path: Path) -> None:
    transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=300).save_pretrained(tmp_path)
    pieces = params.base.compose.model_copy(
        update={"vision": "openai/clip-vit-large-patch14-336", "language": str(tmp_path)}
    )
    base = params.base.model_copy(update={"kind": "compose", "compose": pieces})
    with pytest.raises(UserError, match="a GPT2LMHeadModel is not built as LLaVA needs it"):
        base_config(params.model_copy(update={"base": base}))


def test_plan_refuses_samples_longer_than_a_sliding_window(params: Params, tmp_path: Path) -> None:
    text = transformers.MistralConfig(**SIZES, head_dim=16, sliding_window=8)
    transformers.LlavaConfig(text_config=text).save_pretrained(tmp_path)
    checkpoint = params.base.checkpoint.model_copy(update={"model": str(tmp_path)})
    base = params.base.model_copy(update={"kind": "checkpoint", "checkpoint": checkpoint})
    with pytest.raises(UserError, match=r"pretrain.max_length \d+ is more than the 8 tokens"):
        plan(params.model_copy(update={"base": base}))
