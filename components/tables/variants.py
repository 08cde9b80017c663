"""The paper's tables as variants of the settings: what each row changes in params.yaml.

Ranks and anchors follow the profile: half, once and twice its rank, and the levels that its VCE reads, in their order.
`row` names the published row (components/report/published.yaml) that a variant is the method of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from components.errors import UserError
from components.params import Params, validate_params
from components.params.trees import Value, changed

ADAPTER_ALONE: dict[str, Value] = {"vce.enabled": False, "finetune.learning_rate.projector": 0}


@dataclass(frozen=True)
class Variant:
    name: str
    settings: Mapping[str, Value]  # dotted keys of params.yaml
    row: str | None = None  # of the published table; None where the paper has no such row

    def params(self, base: Params, seed: int) -> Params:
        """The settings of one run, validated like params.yaml itself."""
        return validate_params(changed(base.model_dump(), {**self.settings, "seed": seed}), self.name)


@dataclass(frozen=True)
class Study:
    """A table of the paper. `published`: the id of its figures; others of the same runs in `also`."""

    name: str
    title: str
    published: str
    variants: Callable[[Params], list[Variant]]
    also: tuple[str, ...] = ()


def methods(params: Params) -> list[Variant]:
    """Every method without VCE and with it. The paper prints VCE beside Dual-LoRA alone, and VLoRA elsewhere."""
    moe: dict[str, Value] = {"adapter.kind": "lora_moe"}
    plain: dict[str, dict[str, Value]] = {
        "LoRA": {"adapter.kind": "lora"},
        "LoRA-MoE top-2": {**moe, "adapter.lora_moe.routing": "top_k"},
        "LoRA-MoE softmax": {**moe, "adapter.lora_moe.routing": "softmax"},
        "RoDE": {"adapter.kind": "rode"},
        "Dual-LoRA": {"adapter.kind": "dual_lora"},
        "VLoRA": {"adapter.kind": "lora", "connector.kind": "vlora"},
    }
    printed = {*plain, "Dual-LoRA + VCE"} - {"VLoRA"}
    variants = []
    for enabled, suffix in ((False, ""), (True, " + VCE")):
        for method, settings in plain.items():
            name = f"{method}{suffix}"
            variants.append(Variant(name, {**settings, "vce.enabled": enabled}, name if name in printed else None))
    return variants


def vce_and_dual(params: Params) -> list[Variant]:
    return [
        Variant("neither", {"adapter.kind": "lora", "vce.enabled": False}, "neither (LoRA)"),
        Variant("Dual-LoRA only", {"adapter.kind": "dual_lora", "vce.enabled": False}, "Dual-LoRA only"),
        Variant("VCE only", {"adapter.kind": "lora", "vce.enabled": True}, "VCE only"),
        Variant("both", {"adapter.kind": "dual_lora", "vce.enabled": True}, "both"),
    ]


def design(params: Params) -> list[Variant]:
    def dual(normalize: bool, activation: str) -> dict[str, Value]:
        return {
            "adapter.kind": "dual_lora",
            "adapter.dual_lora.normalize": normalize,
            "adapter.dual_lora.activation": activation,
        }

    return [
        Variant("neither", {**dual(False, "none"), **ADAPTER_ALONE}, "neither"),
        Variant("norm only", {**dual(True, "none"), **ADAPTER_ALONE}),
        Variant("activation only", {**dual(False, "relu"), **ADAPTER_ALONE}),
        Variant("both", {**dual(True, "relu"), **ADAPTER_ALONE}, "both"),
        Variant("both, full training", {**dual(True, "relu"), "vce.enabled": False}, "both, full training"),
    ]


def anchors(params: Params) -> list[Variant]:
    printed = [-2, -8, -14, -20]
    fixed: dict[str, Value] = {"adapter.kind": "dual_lora", "vce.enabled": True}
    rows = [f"layer {level}" for level in printed]
    return [
        Variant(f"layer {level}", {**fixed, "vce.anchor": level}, rows[place] if place < len(rows) else None)
        for place, level in enumerate(params.vce.levels)
    ]


def forms(params: Params) -> list[Variant]:
    """As printed beside as released, each part alone and both; and both forms at the anchor of the released code.

    That is the last of its levels, where the paper prints the anchor as the first.
    """
    first, last = params.vce.levels[0], params.vce.levels[-1]

    def row(name: str, kind: str, cue: bool, form: str, anchor: int, published: str | None = None) -> Variant:
        settings: dict[str, Value] = {"adapter.kind": kind, "adapter.form": form, "vce.enabled": cue, "vce.form": form}
        return Variant(name, {**settings, "vce.anchor": anchor}, published)

    return [
        row("Dual-LoRA", "dual_lora", False, "paper", first, "Dual-LoRA only"),
        row("Dual-LoRA (released)", "dual_lora", False, "released", first),
        row("VCE", "lora", True, "paper", first, "VCE only"),
        row("VCE (released)", "lora", True, "released", first),
        row("both", "dual_lora", True, "paper", first, "both"),
        row("both (released)", "dual_lora", True, "released", first),
        row(f"both, anchor {last}", "dual_lora", True, "paper", last),
        row(f"both (released), anchor {last}", "dual_lora", True, "released", last),
    ]


def ranks(params: Params) -> list[Variant]:
    printed = dict(zip((0.5, 1, 2), (32, 64, 128), strict=True))
    return [
        Variant(
            f"{name} rank {int(params.adapter.rank * share)}",
            {"adapter.kind": kind, "adapter.rank": max(1, int(params.adapter.rank * share)), **ADAPTER_ALONE},
            f"{name} rank {rank}",
        )
        for kind, name in (("lora", "LoRA"), ("dual_lora", "Dual-LoRA"))
        for share, rank in printed.items()
    ]


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study("table1", "The compared methods (Tables 1 and 2)", "unifood", methods, ("scienceqa", "flickr30k")),
        Study("table3", "Which part helps (Table 3)", "parts", vce_and_dual),
        Study("table4", "Norm and activation of Dual-LoRA (Table 4)", "design", design),
        Study("anchors", "Anchor layer of VCE (appendix Table 1)", "anchor", anchors),
        Study("forms", "As printed and as the authors released it", "parts", forms),
        Study("ranks", "Rank, only the adapter trained (appendix Table 2, Figure 7)", "rank", ranks),
    )
}


def study(name: str) -> Study:
    if name not in STUDIES:
        raise UserError(f"there is no table {name!r}; known: {', '.join(STUDIES)}, tasks")
    return STUDIES[name]
