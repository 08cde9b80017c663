"""Several answers to one prompt as one sequence, inside the Hugging Face Trainer as it is: the same loss for less.

    python examples/shared_prefix_trainer.py HuggingFaceTB/SmolLM2-135M

The prompt is computed once; a mask hides the answers from each other, and their positions restart after the prompt.
TRL's SFTTrainer takes the same data and collator (docs/tree.md).
"""

import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from local_enhanced_adapters import DualLoraConfig, tree

Group = tuple[str, Sequence[str]]  # a prompt and its answers
GROUPS: tuple[Group, ...] = (
    ("Describe a rye loaf. ", ("Dark and sour.", "It needs a long rest.", "It keeps for a week.")),
    ("Describe a flat bread. ", ("Thin and quick.", "It needs no rest.")),
)


def main(name: str, *, steps: int = 20) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(name)
    base = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, attn_implementation="sdpa")
    model = get_peft_model(base, DualLoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"]))
    data: Any = [tree.branches(tokenizer, prompt, answers) for prompt, answers in GROUPS]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=len(GROUPS),
            learning_rate=5e-3,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        trainer = Trainer(model, arguments, data_collator=tree.TreeCollator(), train_dataset=data)
        trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(main(*sys.argv[1:])[-1])
