"""`lea export vllm FOLDER`: a registered model as a Hugging Face folder that plain `transformers` loads.

    config.json  model.safetensors  tokenizer, image processor, chat template  modeling_lea.py, imports  README.md

A plain LoRA is merged into the weights; Dual-LoRA, which depends on its input, comes with its code. No pickle.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.batching.text_tokens import start_token
from components.errors import UserError
from components.files import fresh_folder, write_json, write_tensors
from components.imports import ABOVE
from components.model.released_cue import ReleasedVisualCueEnhancement
from components.serving.chat_template import v1_template
from components.serving.loading import Loaded, find_version, load_version

if TYPE_CHECKING:
    from torch import Tensor, nn

    from components.evaluation.inference.assistant import Assistant

CODE = "modeling_lea"
SHAPES = re.compile(r"^if TYPE_CHECKING:\n    from jaxtyping import .+\n\n", re.MULTILINE)
CUE_FILES = ("bilinear", "deformable", "released_cue", "visual_cue")
AUTO_MAP = {
    "AutoConfig": f"{CODE}.LeaConfig",
    "AutoModel": f"{CODE}.LeaModel",
    "AutoModelForImageTextToText": f"{CODE}.LeaForConditionalGeneration",
}
CARD = """# {name}, version {version}

Exported from a registry of Local-Enhanced Adapters: {adapter} on the base {base}.
Digest of the trained parts: {digest}.

    from transformers import AutoModelForImageTextToText, AutoProcessor
    model = AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)

`trust_remote_code` runs {code}.py of this folder; read it first. Answers are greedy (do_sample=False).
The licence of the base holds for its weights.

| metric | value |
|---|---|
{metrics}

On held-out questions. IoU, F1 and accuracy go from 0 to 1, BLEU and ROUGE-L to 100; nutrition: errors in percent.
"""


def export(model: str, folder: Path) -> Loaded:
    """Write the folder; what cannot be written in this form is a UserError before anything is."""
    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise UserError(f"{folder} is there already; give a new folder")
    loaded = load_version(find_version(model))
    _check(loaded)
    assistant = loaded.assistant
    folder.parent.mkdir(parents=True, exist_ok=True)
    with fresh_folder(folder) as aside:
        tensors, targets = _tensors(assistant)
        write_tensors(aside / "model.safetensors", tensors)
        write_json(aside / "config.json", _config(assistant, targets))
        if assistant.model.generation_config is not None:
            assistant.model.generation_config.save_pretrained(str(aside))
        _processor(assistant).save_pretrained(str(aside))
        _write_code(aside)
        (aside / "README.md").write_text(_card(loaded), encoding="utf-8")
    return loaded


def _check(loaded: Loaded) -> None:
    from components.model.connector import visual_weights

    if loaded.adapter not in ("none", "lora", "dual_lora"):
        raise UserError(f"lea export vllm: adapter {loaded.adapter} has no such form yet; dual_lora and lora have")
    if visual_weights(loaded.assistant.model) is not None:
        raise UserError("lea export vllm: VLoRA changes the weights by the image, which such a folder cannot hold")
    if loaded.assistant.template != "v1":
        raise UserError(f"lea export vllm: template {loaded.assistant.template} has no such form yet; v1 has")


def _tensors(assistant: Assistant) -> tuple[dict[str, Tensor], list[str]]:
    """Weights by the names of `hugging_face.py`, and the adapted layers' paths in the language model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    from components.adapters import DualLoraLayer

    model: Any = assistant.model
    targets, inside = [], {}
    for path, layer in model.named_modules():
        if isinstance(layer, DualLoraLayer):
            targets.append(path.removeprefix("model.language_model."))
            inside |= {f"{path}.{name}": tensor for name, tensor in _dual_lora(layer).items()}
        elif isinstance(layer, BaseTunerLayer):
            layer.merge()  # type: ignore[operator]
    skipped = tuple(f"model.language_model.{target}." for target in targets)
    others = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith(skipped) and ".lora_" not in name
    }
    # A tensor of its own each: tied weights would be refused.
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in (others | inside).items()}, targets


def _dual_lora(layer: Any) -> dict[str, Tensor]:
    """One adapted layer; S and T, which are one tensor in training, are two."""
    (name,) = layer.active_adapters
    spaces, base = layer.dual_lora_spaces[name], layer.get_base_layer()
    skill, task = spaces.weight.chunk(2)
    found = {"base.weight": base.weight, "skill.weight": skill, "task.weight": task}
    found["up.weight"] = layer.dual_lora_up[name].weight
    if base.bias is not None:
        found["base.bias"] = base.bias
    if spaces.use_norm:
        found |= {"norm.weight": spaces.norm_weight, "norm.bias": spaces.norm_bias}
    return found


def _config(assistant: Assistant, targets: list[str]) -> dict[str, Any]:
    model: Any = assistant.model
    connector = model.model.multi_modal_projector
    vce = connector.vce
    tree = {**model.config.to_dict(), "model_type": "lea_llava", "architectures": ["LeaForConditionalGeneration"]}
    levels = model.config.vision_feature_layer
    tree["lea"] = {
        "vce": None if vce is None else {
            "form": "released" if isinstance(vce, ReleasedVisualCueEnhancement) else "paper",
            "levels": list(levels),
            "anchor": levels[vce.anchor],
            "num_heads": vce.num_heads,
            "num_points": vce.num_points,
            "scale": vce.scale,
        },
        "registers": connector.num_registers,
        "adapter": _adapter(model, targets),
        "targets": targets,
    }  # fmt: skip
    for each in (tree, tree["vision_config"], tree["text_config"]):
        each.pop("_name_or_path", None)  # a path of the machine that made it
    return {**tree, "auto_map": AUTO_MAP}


def _adapter(model: nn.Module, targets: list[str]) -> dict[str, Any] | None:
    """The settings that all adapted layers have."""
    from components.adapters import ACTIVATIONS

    found = []
    for target in targets:
        layer: Any = model.get_submodule(f"model.language_model.{target}")
        (name,) = layer.active_adapters
        spaces = layer.dual_lora_spaces[name]
        activation = next(known for known, function in ACTIVATIONS.items() if function is spaces.activate)
        known = {"rank": layer.r[name], "scale": layer.scaling[name]}
        found.append({**known, "normalize": spaces.use_norm, "activation": activation})
    assert all(each == found[0] for each in found), "this project gives all layers one rank"
    return found[0] if found else None


def _processor(assistant: Assistant) -> Any:
    """Pads to a square as training did, expands <image>, and has LLaVA's v1 conversation as its chat template."""
    from transformers import LlavaProcessor
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    own = assistant.image_processor.to_dict()
    config: Any = assistant.model.config
    kept = ("size", "crop_size", "do_resize", "do_center_crop", "do_rescale", "do_normalize", "image_mean", "image_std")
    settings = {key: own[key] for key in (*kept, "resample", "rescale_factor", "do_convert_rgb") if key in own}
    images = LlavaImageProcessorPil(**settings, do_pad=assistant.image == "pad")
    start = "" if start_token(assistant.tokenizer) is None else "{{ bos_token }}"
    template = start + v1_template()
    assistant.tokenizer.chat_template = template
    leading = config.vision_feature_select_strategy == "default"
    return LlavaProcessor(
        images,
        assistant.tokenizer,
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        chat_template=template,
        image_token=assistant.tokenizer.convert_ids_to_tokens(config.image_token_id),
        num_additional_image_tokens=1 if leading else 0,
    )


def _write_code(folder: Path) -> None:
    """The model's code, made to stand without this project: all files beside each other."""
    room = Path(__file__).parents[1]
    files = {CODE: room / "serving" / "hugging_face.py"} | {name: room / "model" / f"{name}.py" for name in CUE_FILES}
    for name, path in files.items():
        code = path.read_text(encoding="utf-8").replace(f"from {ABOVE}components.model.", "from .")
        code = code.replace(f"from {ABOVE}components.errors import UserError\n", "UserError = ValueError\n")
        code = SHAPES.sub("", code)  # transformers asks for every package that a file imports, these too
        assert "components." not in code, f"{path} must stand alone in an exported folder"
        (folder / f"{name}.py").write_text(code, encoding="utf-8")


def _card(loaded: Loaded) -> str:
    metrics = "\n".join(f"| {name} | {value:.4g} |" for name, value in sorted(loaded.metrics.items()))
    known = {"name": loaded.name, "version": loaded.version, "adapter": loaded.adapter, "digest": loaded.digest}
    return CARD.format(**known, base=loaded.base[:12], code=CODE, metrics=metrics or "| none | |")
