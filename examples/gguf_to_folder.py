"""A GGUF file as a Hugging Face folder, which `base.compose.language` and everything else here can load.

    python examples/gguf_to_folder.py SmolLM2-135M-Instruct.gguf models/smollm2

transformers reads GGUF, but does not save what it has read from one: the weights are copied into a plain model.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(file: str, folder: str) -> None:
    if Path(folder).is_dir() and any(Path(folder).iterdir()):
        sys.exit(f"{folder} is there already; give a new folder")
    place = {"pretrained_model_name_or_path": str(Path(file).parent), "gguf_file": Path(file).name}
    read = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(read.config, name):
            delattr(read.config, name)
    plain = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**place).save_pretrained(folder)
    print(f"{folder}: {sum(each.numel() for each in plain.parameters()):,} parameters")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
