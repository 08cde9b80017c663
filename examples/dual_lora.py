"""Dual-LoRA on any Hugging Face causal language model: train it on a few sentences, save it, load it back.

python examples/dual_lora.py HuggingFaceTB/SmolLM2-135M adapter
"""

import sys

import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from local_enhanced_adapters import DualLoraConfig

TEXTS = ("A rye loaf needs a long rest.", "A flat bread needs none.", "A brioche needs butter and time.")


def main(name: str, folder: str, *, steps: int = 30, rank: int = 16) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(name)
    base = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    config = DualLoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=5e-3)
    losses = []
    for step in range(steps):
        ids = tokenizer(TEXTS[step % len(TEXTS)], return_tensors="pt").input_ids
        loss = model(input_ids=ids, labels=ids).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
    model.save_pretrained(folder)
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(name), folder)  # after importing the package
    return losses


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
