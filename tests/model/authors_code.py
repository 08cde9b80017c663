"""Runs the authors' Dual-LoRA layer and VCE module, in a process of its own: python authors_code.py CODE OUT.

CODE is a checkout of github.com/pengkun-jiao/FHTC. Their packages import training code, data loaders and a compiled
operator at once; here only the two files with the formulas are imported, and the PyTorch function that they keep beside
the operator takes its place. Writes OUT/dual_lora.safetensors and OUT/vce.safetensors: inputs, weights, outputs,
gradients.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file

SEED = 7


def stirred(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def noted(module: torch.nn.Module, inputs: dict[str, torch.Tensor], output: torch.Tensor) -> dict[str, torch.Tensor]:
    """Everything to compare; the loss weighs each output differently, so that no gradient is a plain sum."""
    weights = torch.linspace(-1, 1, output.numel()).view_as(output)
    (output * weights).sum().backward()
    found = {"output": output.detach(), "loss_weights": weights}
    found |= {f"input.{name}": tensor.detach() for name, tensor in inputs.items()}
    found |= {f"input_gradient.{n}": t.grad for n, t in inputs.items() if t.grad is not None}
    for name, parameter in module.named_parameters():
        found[f"weight.{name}"] = parameter.detach()
        if parameter.grad is not None:
            found[f"gradient.{name}"] = parameter.grad
    return {name: tensor.clone().contiguous() for name, tensor in found.items()}


def dual_lora(dropout: float) -> dict[str, torch.Tensor]:
    from mypeft.tuners.lora import Linear  # pyright: ignore[reportMissingImports]

    torch.manual_seed(SEED)
    layer = Linear(24, 20, ranks=[8], lora_dropout=dropout, bias=False)
    stirred(layer)
    layer.weight.requires_grad_(False)
    x = torch.randn(3, 5, 24, requires_grad=True)
    layer.train()
    torch.manual_seed(SEED)  # the mask of the dropout
    return noted(layer, {"x": x}, layer(x))


def bare_package(name: str, folder: Path) -> None:
    """A package whose __init__ does not run."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def vce(code: Path) -> dict[str, torch.Tensor]:
    projector = code / "llava" / "model" / "multimodal_projector"
    for name, folder in (
        ("llava", code / "llava"),
        ("llava.model", code / "llava" / "model"),
        ("llava.model.multimodal_projector", projector),
    ):
        bare_package(name, folder)
    sys.modules["MultiScaleDeformableAttention"] = types.ModuleType("MultiScaleDeformableAttention")  # compiled
    prefix = "llava.model.multimodal_projector"
    cross = __import__(f"{prefix}.ms_cross_attn", fromlist=["VCE_Module"])
    attention = sys.modules[f"{prefix}.deformable_attention.ops.modules.ms_deform_attn"]
    plain = sys.modules[f"{prefix}.deformable_attention.ops.functions.ms_deform_attn_func"].ms_deform_attn_core_pytorch

    class PlainPyTorch:
        @staticmethod
        def apply(value, shapes, starts, locations, weights, step):
            return plain(value, [tuple(map(int, shape)) for shape in shapes], locations, weights)

    attention.MSDeformAttnFunction = PlainPyTorch  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(SEED)
    module = cross.VCE_Module(d_model=32, n_levels=4, n_heads=4, n_points=3)
    stirred(module)
    levels = torch.randn(4, 2, 25, 32, requires_grad=True)
    return noted(module, {"levels": levels}, module(levels))


if __name__ == "__main__":
    code, out = Path(sys.argv[1]), Path(sys.argv[2])
    code = code / "source" if (code / "source").is_dir() else code
    sys.path.insert(0, str(code))
    save_file(dual_lora(0.0), out / "dual_lora.safetensors")
    save_file(dual_lora(0.3), out / "dual_lora_dropout.safetensors")
    save_file(vce(code), out / "vce.safetensors")
