"""As printed and as released: where the authors' code (FHTC, commit a4d92c4) and their paper part, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from components.params.trees import Value

Form = Literal["paper", "released"]
FORMS: tuple[Form, ...] = ("paper", "released")

ABOUT = (
    "Paper and released code part in several places. As printed, VCE attends to each level alone, joins the levels by "
    "a matrix and adds the layer-normed cue to level -2; as released, one softmax runs over all levels and points, the "
    "norm's result is thrown away, and the cue is added to level -20. As printed, dropout covers the input of both "
    "spaces of Dual-LoRA; as released, the skill path only. The paper trains one epoch at rank 64; the scripts train "
    "five at rank 32, and both stages in template v1 with padded images. The release holds no weights, data or figures "
    "and does not run as it is, so that nobody outside can say which form gave the printed figures. Ours follow the "
    "paper except in the column that says released; a cell is empty where that form was not measured, and where ours "
    "was measured on another base and other data the difference says nothing about the method."
)
DUAL_LORA = "the same formula, dropout on the skill path only; its scripts: rank 32, 5 epochs"
VCE = "one softmax over levels and points, the cue added without its norm, to level -20"


def form_of(tree: Mapping[str, Any]) -> Form:
    """`released` where any part in use is set to it; `paper` otherwise."""
    adapter, vce = tree.get("adapter", {}), tree.get("vce", {})
    used = [adapter] if adapter.get("kind") == "dual_lora" else []  # other methods have one form
    used += [vce] if vce.get("enabled") else []
    return "released" if any(part.get("form") == "released" for part in used) else "paper"


def released_form(settings: Mapping[str, Value]) -> str:
    """What the released code computes in place of the paper's row with these settings."""
    if settings.get("connector.kind") == "vlora":
        return "its public code: positions start with spread 1.0, the head of A with 0.02"
    said = [DUAL_LORA] if settings.get("adapter.kind") == "dual_lora" else []
    enabled = settings.get("vce.enabled") is True or "vce.anchor" in settings
    said += [VCE] if enabled else []
    return "; ".join(said) or "not in the release"
