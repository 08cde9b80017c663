"""The methods inside other trainers, as any PEFT user would run them: the HF Trainer and TRL's SFTTrainer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM, LlavaForConditionalGeneration, LlavaProcessor

from components.adapters import METHODS, adapter_parameters
from components.batching.tree import TreeCollator
from components.model.base import compose
from tests.models import tiny_pieces, tiny_tokenizer, wrapped

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytestmark = pytest.mark.peer
MORE: dict[str, dict[str, Any]] = {"lora": {}, "dual_lora": {}, "lora_moe": {}, "rode": {"ranks": [1, 1, 2, 4]}}
RECIPE: dict[str, Any] = {
    "max_steps": 30,
    "per_device_train_batch_size": 4,
    "learning_rate": 0.01,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "disable_tqdm": True,
    "seed": 3,
}
CHAT = (
    "{% for m in messages %}{% if m.role == 'user' %}USER: {% else %}ASSISTANT: {% endif %}"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}"
    "{{ '\n' if m.role == 'user' else eos_token }}{% endfor %}"
)
every_method = pytest.mark.parametrize("name", list(METHODS))


def config(name: str, targets: str) -> Any:
    make: Any = METHODS[name]
    return make(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM", **MORE[name])


def language_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=64, initializer_range=0.3, pad_token_id=0))


def check(trainer: Any, before: dict[str, torch.Tensor], fresh_base: torch.nn.Module, inputs: Any, out: Path) -> None:
    """The loss fell, the adapter alone changed, and what was saved loads back equal to the bit."""
    model = trainer.model
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3]), losses
    own = set(adapter_parameters(model))
    assert own
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) is not (name in own), name
    trainer.save_model(str(out))
    again = PeftModel.from_pretrained(fresh_base, str(out)).eval()
    theirs = adapter_parameters(again)
    assert {n: p.shape for n, p in theirs.items()} == {n: p.shape for n, p in adapter_parameters(model).items()}
    assert all(torch.equal(p, theirs[n]) for n, p in adapter_parameters(model).items())
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, model.eval()(**inputs).logits)


@every_method
def test_hf_trainer_trains_a_language_model(name: str, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    model = get_peft_model(language_model(), config(name, r".*_proj"))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    rows = torch.randint(3, 64, (8, 12), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": row, "labels": row} for row in rows]
    trainer = Trainer(model, TrainingArguments(str(tmp_path / "run"), **RECIPE), train_dataset=data)  # type: ignore[arg-type]
    trainer.train()
    check(trainer, before, language_model(), {"input_ids": rows}, tmp_path / "adapter")


def llava() -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    vision, language, tokenizer, image_processor = tiny_pieces()
    model = compose(vision, language, tokenizer, image_processor, seed=0)
    for parameter in model.parameters():  # louder than the usual start: a frozen head must be able to say something
        if parameter.ndim > 1:
            parameter.data.mul_(8)
    tokenizer = wrapped(tiny_tokenizer().backend_tokenizer, chat_template=CHAT)
    processor = LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=CHAT,
        num_additional_image_tokens=1,
    )
    return model, processor


@every_method
def test_trl_sft_trainer_trains_a_llava(name: str, tmp_path: Path) -> None:
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
    model, processor = llava()
    said = [("red", "Rice and beans."), ("green", "A plate of rice."), ("blue", "beans"), ("white", "What is on?")]
    rows = [
        {
            "images": [Image.new("RGB", (16, 16), colour)],
            "messages": [
                {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is on the plate?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": answer}]},
            ],
        }
        for colour, answer in said * 2
    ]
    arguments = trl.SFTConfig(
        str(tmp_path / "run"), max_length=None, gradient_checkpointing=False, bf16=False, **RECIPE
    )
    trainer = trl.SFTTrainer(
        model,
        args=arguments,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=processor,
        peft_config=config(name, r".*language_model.*_proj"),
    )
    before = {n: t.clone() for n, t in trainer.model.state_dict().items()}
    trainer.train()
    batch = processor(images=[rows[0]["images"][0]], text=["USER: <image>What"], return_tensors="pt")  # pyright: ignore[reportCallIssue]
    check(trainer, before, llava()[0], dict(batch), tmp_path / "adapter")


TREES: list[dict[str, Any]] = [
    {
        "input_ids": [[5, 6, 7, 8, 9 + n, 2], [5, 6, 7, 8, 19 + n, 20, 2], [5, 6, 7, 8, 30 + n, 2]],
        "labels": [[-100] * 4 + [9 + n, 2], [-100] * 4 + [19 + n, 20, 2], [-100] * 4 + [30 + n, 2]],
    }
    for n in range(4)
]


def separate_loss(model: Any) -> float:
    """The mean over all labels of all samples, one by one."""
    summed, labels = 0.0, 0
    with torch.no_grad():
        for group in TREES:
            for ids, aims in zip(group["input_ids"], group["labels"], strict=True):
                count = sum(aim >= 0 for aim in aims)
                summed += count * model(input_ids=torch.tensor([ids]), labels=torch.tensor([aims])).loss.item()
                labels += count
    return summed / labels


@pytest.mark.parametrize("which", ["transformers", "trl"])
def test_trees_train_in_both_trainers_as_they_are(which: str, tmp_path: Path) -> None:
    """The first step's loss is that of the separate samples; then it falls."""
    model, recipe = get_peft_model(language_model(), config("dual_lora", r".*_proj")), {**RECIPE, "max_steps": 20}
    expected = separate_loss(model)
    if which == "trl":
        datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")
        arguments = trl.SFTConfig(
            str(tmp_path), max_length=None, gradient_checkpointing=False, bf16=False,
            dataset_kwargs={"skip_prepare_dataset": True}, **recipe,
        )  # fmt: skip
        data, more = datasets.Dataset.from_list(TREES), {"processing_class": tiny_tokenizer()}
        trainer = trl.SFTTrainer(model, args=arguments, train_dataset=data, data_collator=TreeCollator(), **more)
    else:
        from transformers import Trainer, TrainingArguments

        arguments = TrainingArguments(str(tmp_path), **recipe)
        trainer = Trainer(model, arguments, train_dataset=TREES, data_collator=TreeCollator())  # type: ignore[arg-type]
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[0] == pytest.approx(expected, rel=1e-3)  # the log rounds
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3]), losses
