"""The DINOv2 encoder inside an ONNX file as a Hugging Face folder, which `base.compose.vision` can load.

    pip install onnx
    python examples/onnx_to_dinov2.py vit_s_focus.onnx models/dinov2-small

For files that torch exported from a model around transformers' Dinov2Model (`backbone`): biases and norms keep their
names, a linear weight goes by the name of the MatMul that reads it, and lies transposed.
"""

import re
import sys
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

PREFIX = "backbone."
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of DINOv2's training
POSITIONS = "embeddings.position_embeddings"


def main(file: str, folder: str, *, heads: int = 6, side: int = 112) -> None:
    """`heads`: of the attention (the file does not name it; 6 for ViT-S). `side`: pixels of the processor's images."""
    if Path(folder).is_dir() and any(Path(folder).iterdir()):
        sys.exit(f"{folder} is there already; give a new folder")
    found = weights(onnx.load(file))
    width, patch = found["embeddings.patch_embeddings.projection.weight"].shape[0::3]
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=1 + max(int(name.split(".")[2]) for name in found if name.startswith("encoder.layer.")),
        num_attention_heads=heads,
        mlp_ratio=found["encoder.layer.0.mlp.fc1.bias"].numel() // width,
        patch_size=patch,
        image_size=patch * round((found[POSITIONS].shape[1] - 1) ** 0.5),
    )
    model = Dinov2Model(config)
    found["embeddings.mask_token"] = torch.zeros(1, width)  # of pretraining alone
    model.load_state_dict(found)
    model.save_pretrained(folder)
    cut = {"height": side, "width": side}
    processor = BitImageProcessorPil(size={"shortest_edge": side}, crop_size=cut, image_mean=MEAN, image_std=STD)
    processor.save_pretrained(folder)
    print(f"{folder}: {sum(each.numel() for each in model.parameters()):,} parameters")


def weights(model: Any) -> dict[str, Tensor]:
    """Of the encoder, by transformers' names."""
    held = {each.name: torch.tensor(numpy_helper.to_array(each)) for each in model.graph.initializer}
    found = {name.removeprefix(PREFIX): value for name, value in held.items() if name.startswith(PREFIX)}
    for node in model.graph.node:
        layer = re.fullmatch(rf"/{re.escape(PREFIX[:-1])}/(encoder/.*)/MatMul", node.name)
        for name in node.input if layer else ():
            if layer and name in held:
                found[f"{layer[1].replace('/', '.')}.weight"] = held[name].T.contiguous()
    width = found["embeddings.cls_token"].shape[-1]
    # Places are stored apart, without a name: one for the class token, and one for each patch.
    places = [value for name, value in held.items() if "." not in name and value.shape[::2] == (1, width)]
    found[POSITIONS] = torch.cat(sorted(places, key=lambda value: value.shape[1]), dim=1)
    return {renamed(name): value for name, value in found.items()}


def renamed(name: str) -> str:
    """Older versions of transformers, which files were exported with, have longer names for attention."""
    for old, new in (("query", "q"), ("key", "k"), ("value", "v")):
        name = name.replace(f"attention.attention.{old}", f"attention.{new}_proj")
    return name.replace("attention.output.dense", "attention.o_proj")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
