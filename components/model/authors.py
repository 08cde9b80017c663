"""The authors' own files: `adapter_weight.pth` of github.com/pengkun-jiao/FHTC (commit a4d92c4) as parts of ours.

One file holds every parameter whose name holds `lora` or `mm_proj`:

    ...layers.0.self_attn.q_proj.lora_A0.weight          the skill space S (lora_T: task, lora_B0: up, lora_layer_norm)
    ...mm_projector.VCE_module.cross_attn.value_proj...  VCE in its released form
    ...mm_projector.mm_projector_llava.0.weight          the projector's two layers, 0 and 2

It says no settings. Their code fixes the scale at 2, which is alpha over rank; the rest stands in their
`config.yaml`, read where it lies in the folder too, and otherwise as published.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from components import params
from components.errors import UserError
from components.files import fresh_folder
from components.model.assemble import add_connector, put_adapter
from components.model.base import read_config
from components.model.stored import path_free, read_reference
from components.model.weights import CONNECTOR, save_parts

WEIGHTS, CONFIG = "adapter_weight.pth", "config.yaml"
COMMIT = "a4d92c4"
PUBLISHED = {"n_levels": 4, "n_heads": 16, "n_points": 4, "mm_vision_select_layer": [-2, -8, -14, -20]}
ALPHA_OVER_RANK, DROPOUT = 2.0, 0.05

ADAPTER_NAMES = {"lora_A0": "dual_lora_skill", "lora_T": "dual_lora_task", "lora_B0": "dual_lora_up"}
NORM = "lora_layer_norm"
CUE_NAMES = {
    "cross_attn.sampling_offsets": "offsets",
    "cross_attn.attention_weights": "attention",
    "cross_attn.value_proj": "value",
    "cross_attn.output_proj": "output",
    "query_norm": "query_norm",
    "feat_norm": "feature_norm",
    "norm": "unused_norm",
}
PROJECTOR_NAMES = {"0": "linear_1", "2": "linear_2"}
LAYER = re.compile(r"(?:.*\.)?(layers\.\d+\..+)\.(lora_\w+)\.(weight|bias)")
CUE = re.compile(r"(?:.*\.)?mm_projector\.VCE_module\.(.+)\.(weight|bias)")
PROJECTOR = re.compile(r"(?:.*\.)?mm_projector\.mm_projector_llava\.(\d+)\.(weight|bias)")


def import_parts(folder: Path, base: Path, out: Path) -> dict[str, int]:
    """Write parts (connector, adapter, model.json) from a folder of the authors; returns how many tensors each has.

    base: a folder as the stage `base` writes it; the tensors must fit it. UserError where `out` holds anything.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"{out} is there already; give a new folder: --out")
    theirs = read_weights(folder / WEIGHTS)
    vce, adapter = _vce(folder, theirs), _adapter(folder, theirs)
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(read_config(base))
        add_connector(model, vce)
        wrapped = put_adapter(model, adapter) if adapter else None
    connector: Any = model.model.multi_modal_projector
    if any(CUE_NAMES["norm"] in name for name in _named(theirs)):
        connector.vce.keep_unused_norm()
    weights = _named(theirs)
    _check_fit(folder / WEIGHTS, weights, model)
    settings = {
        "base": path_free(read_reference(base)),
        "connector": "projector",
        "vlora": None,
        "vce": vce.model_dump() if vce else None,
        "adapter": adapter.model_dump() if adapter else None,
        "language_model": "frozen",
        "template": "v1",
        "image": "pad",
        "run": f"imported from {WEIGHTS} (FHTC {COMMIT})",
        "data": {},
    }
    with fresh_folder(out) as place:
        save_parts(place, settings, _fused(weights), wrapped)
    adapted = sum(".layers." in name for name in weights)
    return {"connector": len(weights) - adapted, "adapter": adapted}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of their file. Tensors alone are read, no code runs; a UserError where it holds anything else."""
    try:
        with warnings.catch_warnings(action="ignore"):  # torch remarks on how a file was pickled
            found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; give the folder that holds the authors' {WEIGHTS}") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} is no file of tensors alone, and nothing else is read: {reason[:160]}") from None
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in found.items()
    ):
        raise UserError(f"{path} holds something else than named tensors; {WEIGHTS} is a table of names and tensors")
    if not found:
        raise UserError(f"{path} holds no tensor")
    return dict(found)


def our_name(name: str) -> str | None:
    """A tensor's name within our model; None where it is no part of theirs."""
    if match := LAYER.fullmatch(name):
        path, part, kind = match.groups()
        own = "dual_lora_norm" if part == NORM else ADAPTER_NAMES.get(part)
        return f"model.language_model.{path}.{own}.{kind}" if own else None
    if match := CUE.fullmatch(name):
        return f"{CONNECTOR}vce.{CUE_NAMES[match[1]]}.{match[2]}" if match[1] in CUE_NAMES else None
    if match := PROJECTOR.fullmatch(name):
        return f"{CONNECTOR}projector.{PROJECTOR_NAMES[match[1]]}.{match[2]}" if match[1] in PROJECTOR_NAMES else None
    return None


def _named(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under our names, in fp32, which holds their half precision exactly."""
    named: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        own = our_name(name)
        if own is None:
            raise UserError(f"{WEIGHTS} holds {name}, which is no part of Dual-LoRA, VCE or the projector as released")
        named[own] = tensor.float()
    return named


def _adapter(folder: Path, theirs: Mapping[str, Tensor]) -> params.Adapter | None:
    skills = {name: tensor for name, tensor in theirs.items() if name.endswith(".lora_A0.weight")}
    if not skills:
        return None
    ranks = sorted({tensor.shape[0] for tensor in skills.values()})
    if len(ranks) > 1:
        raise UserError(f"{folder / WEIGHTS} holds skill spaces of ranks {ranks}; theirs have one")
    targets = sorted({name.removesuffix(".lora_A0.weight").rpartition(".")[2] for name in skills})
    return params.Adapter(
        kind="dual_lora",
        form="released",
        rank=ranks[0],
        alpha_over_rank=ALPHA_OVER_RANK,
        dropout=DROPOUT,
        targets=targets,
        dual_lora=params.DualLora(normalize=True, activation="relu"),
        lora_moe=params.LoraMoe(routing="softmax", num_experts=1, top_k=1, balance_loss=0),
        rode=params.Rode(rank_shares=[1]),
    )


def _vce(folder: Path, theirs: Mapping[str, Tensor]) -> params.Vce | None:
    if not any(CUE.fullmatch(name) for name in theirs):
        return None
    config = folder / CONFIG
    try:
        stated = yaml.safe_load(config.read_text(encoding="utf-8"))["VCE"] if config.exists() else {}
        known = {**PUBLISHED, **stated}
        levels = [int(level) for level in known["mm_vision_select_layer"]][: int(known["n_levels"])]
        heads, points = int(known["n_heads"]), int(known["n_points"])
    except (yaml.YAMLError, TypeError, KeyError, ValueError):
        raise UserError(
            f"{config} is not the authors' {CONFIG}: it needs VCE with n_levels, n_heads, n_points"
        ) from None
    return params.Vce(
        enabled=True,
        form="released",
        anchor=levels[-1],  # their query_layer is the last of the list
        levels=levels,
        num_heads=heads,
        num_points=points,
        scale=1.0,
        start="paper",
    )


def _check_fit(path: Path, weights: Mapping[str, Tensor], model: LlavaForConditionalGeneration) -> None:
    """A UserError where a tensor is missing, has no place, or has another shape than the model's."""
    wanted = {}
    for name, parameter in model.named_parameters():
        if name.startswith(CONNECTOR):
            wanted[name] = tuple(parameter.shape)
        elif ".dual_lora_" in name:
            wanted |= _split_shapes(name, tuple(parameter.shape))
    for name in sorted(wanted.keys() | weights.keys()):
        found = tuple(weights[name].shape) if name in weights else None
        if found != wanted.get(name):
            raise UserError(f"{path} does not fit the base: {name} is {found}, and should be {wanted.get(name)}")


def _split_shapes(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of one adapter parameter of the model under the names of the file."""
    if name.endswith(".dual_lora_spaces.default.weight"):
        path, half = name.removesuffix("dual_lora_spaces.default.weight"), (shape[0] // 2, shape[1])
        return {f"{path}dual_lora_skill.weight": half, f"{path}dual_lora_task.weight": half}
    for kind in ("weight", "bias"):
        if name.endswith(f".dual_lora_spaces.default.norm_{kind}"):
            return {name.removesuffix(f"dual_lora_spaces.default.norm_{kind}") + f"dual_lora_norm.{kind}": shape}
    return {name.replace(".dual_lora_up.default.", ".dual_lora_up."): shape}


def _fused(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of the model's parameters: S and T are one tensor."""
    fused = {}
    for name, tensor in weights.items():
        if ".dual_lora_skill." in name:
            task = weights[name.replace("_skill.", "_task.")]
            fused[name.replace("dual_lora_skill.", "dual_lora_spaces.default.")] = torch.cat([tensor, task])
        elif ".dual_lora_norm." in name:
            fused[name.replace("dual_lora_norm.", "dual_lora_spaces.default.norm_")] = tensor
        elif ".dual_lora_task." not in name:
            fused[name.replace(".dual_lora_up.", ".dual_lora_up.default.")] = tensor
    return fused
