"""Several answers to one prompt as one sequence, inside the Hugging Face Trainer: the same loss for less.

    python examples/shared_prefix_trainer.py HuggingFaceTB/SmolLM2-135M

The prompt is computed once; a mask hides the answers from each other, and their positions restart after the prompt.
"""

import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from peft import get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from components.batching.conversation import IGNORED, Encoded
from components.batching.packing import pack, pad, tree_mask
from local_enhanced_adapters import DualLoraConfig

Group = tuple[str, Sequence[str]]  # a prompt and its answers
GROUPS: tuple[Group, ...] = (
    ("Describe a rye loaf. ", ("Dark and sour.", "It needs a long rest.", "It keeps for a week.")),
    ("Describe a flat bread. ", ("Thin and quick.", "It needs no rest.")),
)


def encode(tokenizer: Any, prompt: str, answer: str) -> Encoded:
    """Token ids, and labels on the answer alone."""
    asked, said = tokenizer(prompt).input_ids, tokenizer(answer, add_special_tokens=False).input_ids
    return Encoded(asked + said, [IGNORED] * len(asked) + said)


class Collator:
    """Groups -> one padded tensor (groups, tokens) for each of ids, labels, positions, segments, previous."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, groups: Sequence[Group]) -> dict[str, torch.Tensor]:
        packed = [pack([encode(self.tokenizer, prompt, answer) for answer in answers]) for prompt, answers in groups]
        return pad(packed, filler=self.tokenizer.pad_token_id or 0)


class SharedPrefixTrainer(Trainer):
    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any) -> Any:
        """The mean cross entropy over all answers' tokens."""
        mask = tree_mask(inputs["segments"])
        out = model(input_ids=inputs["ids"], attention_mask=mask, position_ids=inputs["positions"], use_cache=False)
        rows, places = torch.nonzero(inputs["labels"] != IGNORED, as_tuple=True)
        logits = out.logits[rows, inputs["previous"][rows, places]]  # of the place before the label's
        loss = cross_entropy(logits.float(), inputs["labels"][rows, places])
        return (loss, out) if return_outputs else loss


def main(name: str, steps: int = 20) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(name)
    base = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    model = get_peft_model(base, DualLoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"]))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=len(GROUPS),
            learning_rate=5e-3,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        data: Any = list(GROUPS)  # anything with a length and items
        trainer = SharedPrefixTrainer(model, arguments, data_collator=Collator(tokenizer), train_dataset=data)
        trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


if __name__ == "__main__":
    print(main(*sys.argv[1:])[-1])
