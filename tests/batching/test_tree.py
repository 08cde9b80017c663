"""Trees in models that know nothing of them: the loss and the gradients are those of the separate samples."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from peft import get_peft_model
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM

from components.adapters import METHODS
from components.batching.tree import IGNORED, TreeCollator, branches, lay_out
from components.model.base import compose
from tests.models import tiny_pieces, tiny_tokenizer

PROMPT = [5, 6, 7, 8]
GROUPS: list[dict[str, Any]] = [
    {
        "input_ids": [[*PROMPT, 9, 10, 2], [*PROMPT, 11, 2], [*PROMPT, 9, 12, 13, 2]],
        "labels": [[IGNORED] * 4 + [9, 10, 2], [IGNORED] * 4 + [11, 2], [IGNORED] * 4 + [9, 12, 13, 2]],
    },
    {"input_ids": [[5, 20, 21, 2]], "labels": [[IGNORED, IGNORED, 21, 2]]},  # alone
    {  # nothing alike; a label from the very start
        "input_ids": [[30, 31, 2], [32, 2]],
        "labels": [[30, 31, 2], [IGNORED, 2]],
    },
]
MORE: dict[str, dict[str, Any]] = {"lora": {}, "dual_lora": {}, "lora_moe": {}, "rode": {"ranks": [1, 1, 2, 4]}}


def language_model(attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, num_attention_heads=2, vocab_size=64, initializer_range=0.3)
    config._attn_implementation = attention
    return LlamaForCausalLM(config)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def separately(
    model: Any, groups: list[dict[str, Any]], **shared: torch.Tensor
) -> tuple[float, dict[str, torch.Tensor]]:
    """Mean loss over all labels of all samples, one at a time, and its gradients."""
    total = sum(sum(label != IGNORED for label in one[1:]) for group in groups for one in group["labels"])
    summed = 0.0
    for place, group in enumerate(groups):
        for ids, labels in zip(group["input_ids"], group["labels"], strict=True):
            one = {name: value[place : place + 1] for name, value in shared.items()}
            out = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]), num_items_in_batch=total, **one)
            out.loss.backward()
            summed += out.loss.item()
    return summed, gradients(model)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", list(MORE))
def test_loss_and_gradients_are_those_of_the_separate_samples(kind: str, attention: str) -> None:
    make: Any = METHODS[kind]
    model = get_peft_model(language_model(attention), make(r=8, lora_alpha=16, target_modules=r".*_proj", **MORE[kind]))
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    loss, expected = separately(model.eval(), GROUPS)
    batch = TreeCollator(additive=torch.float32 if attention == "eager" else None)(GROUPS)
    out = model(**batch)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(loss, rel=1e-5)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


def test_an_image_is_computed_once_for_its_branches() -> None:
    vision, language, tokenizer, processor = tiny_pieces()
    model = compose(vision, language, tokenizer, processor, seed=0).eval()
    image, line = model.config.image_token_id, 40
    start = [1, *[image] * 4, line]
    groups = [
        {
            "input_ids": [[*start, 41, 42, 2], [*start, 43, 2]],
            "labels": [[IGNORED] * 6 + [41, 42, 2], [IGNORED] * 6 + [43, 2]],
            "pixel_values": torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(number)),
        }
        for number in (1, 2)
    ]
    batch = TreeCollator(unique=[image])(groups)
    assert batch["input_ids"].eq(image).sum() == 2 * 4
    loss, expected = separately(model, groups, pixel_values=batch["pixel_values"])
    out = model(**batch)
    out.loss.backward()
    assert out.loss.item() == pytest.approx(loss, rel=1e-5)
    found = gradients(model)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)
    captions = [{"input_ids": [[1, image, 50, 2], [1, image, 51, 2]], "labels": [[IGNORED, IGNORED, 50, 2]] * 2}]
    with pytest.raises(ValueError, match="samples part right after token"):
        TreeCollator(unique=[image])(captions)


def test_a_batch_of_groups_with_and_without_image_sees_the_image_wherever_its_group_stands() -> None:
    vision, language, tokenizer, processor = tiny_pieces()
    model = compose(vision, language, tokenizer, processor, seed=0).eval()
    image = model.config.image_token_id
    pixels = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1))
    start = [1, *[image] * 4, 40]
    shown = {
        "input_ids": [[*start, 41, 42, 2], [*start, 43, 2]],
        "labels": [[IGNORED] * 6 + [41, 42, 2], [IGNORED] * 6 + [43, 2]],
        "pixel_values": pixels,
    }
    text = {"input_ids": [[1, 50, 51, 2]], "labels": [[IGNORED, IGNORED, 51, 2]]}
    total = 7
    with torch.no_grad():
        alone: list[tuple[dict[str, Any], dict[str, Any]]] = [(shown, {"pixel_values": pixels[None]}), (text, {})]
        expected = sum(
            model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]), num_items_in_batch=total, **more).loss
            for group, more in alone
            for ids, labels in zip(group["input_ids"], group["labels"], strict=True)
        )
        for groups in (
            [shown, text],
            [text, shown],
            [{**text, "pixel_values": None}, shown],
        ):  # None: as datasets fill up
            loss = model(**TreeCollator(unique=[image])(groups), num_items_in_batch=total).loss
            torch.testing.assert_close(loss, torch.as_tensor(expected), rtol=1e-5, atol=1e-6)
    assert "pixel_values" not in TreeCollator()([text, {**text, "pixel_values": None}])


@pytest.mark.parametrize(
    ("group", "line"),
    [
        ({"input_ids": [[1, 5, 2]], "labels": [[IGNORED, 5]]}, r"samples have \[3\] input_ids and \[2\] labels"),
        ({"input_ids": [[1, 5]], "labels": [[1, 5]], "attention_mask": [[1, 1]]}, "must not hold attention_mask"),
        ({"input_ids": [[1, 5]], "labels": [[1, 5]], "weight": 2.0}, "weight is in 1 of 2 groups"),
        ({"input_ids": [], "labels": []}, r"samples have \[\] input_ids"),
    ],
)
def test_what_would_be_laid_out_wrong_is_refused(group: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        TreeCollator()([GROUPS[0], group])
    assert "\n" not in str(caught.value)


def test_layout_is_the_one_that_is_drawn() -> None:
    answers = [[1, 2, 9], [3, 9], [4, 4, 4, 9]]
    made = lay_out([[7, 7, 7, 8, *one] for one in answers], [[IGNORED] * 4 + one for one in answers])
    assert made["position_ids"] == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 3, 4, 5, 6, 7]
    assert made["input_ids"] == [7, 7, 7, 8, 1, 2, 9, 8, 3, 9, 8, 4, 4, 4, 9]
    assert [label for label in made["labels"] if label != IGNORED] == [1, 2, 9, 3, 9, 4, 4, 4, 9]
    assert made["segments"] == [0] * 3 + [1] * 4 + [2] * 3 + [3] * 5


def test_branches_label_the_answers_and_their_ends(tokenizer: Any) -> None:
    group = branches(tokenizer, "What is it? ", ["Rice.", "beans"])
    ends = [ids[-1] for ids in group["input_ids"]]
    assert ends == [tokenizer.eos_token_id] * 2
    spelt = [tokenizer.decode([label for label in labels if label != IGNORED]) for labels in group["labels"]]
    assert spelt == ["Rice.</s>", "beans</s>"]


def test_a_tokenizer_s_own_end_does_not_stand_between_prompt_and_answer() -> None:
    tokenizer = tiny_tokenizer()
    expected = branches(tokenizer, "What is it? ", ["Rice."])
    ends = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    assert tokenizer("it")["input_ids"][-1] == tokenizer.eos_token_id
    assert branches(tokenizer, "What is it? ", ["Rice."]) == expected
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="the tokenizer has no end token"):
        branches(tokenizer, "What is it? ", ["Rice."])


def test_the_module_needs_torch_alone() -> None:
    others = "{'transformers', 'pyarrow', 'pydantic', 'ray'}"
    code = f"import sys, components.batching.tree; print({others} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
