"""Local-Enhanced Adapters under the one name that an installed package has; it works in the repository too.

    from local_enhanced_adapters import DualLoraConfig, VisualCueEnhancement

Importing it makes the adapters known to PEFT, so that `PeftModel.from_pretrained` loads saved ones. That needs torch
and peft alone, as does `tree` (samples that share a prompt as one sequence); `metrics` and `costs` need the extra
[pipeline].
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from components.adapters import (
    DualLoraConfig,
    LoraMoeConfig,
    RodeConfig,
    RouterWeights,
    adapter_parameters,
)

if TYPE_CHECKING:
    from components import adapters, costs
    from components.batching import tree
    from components.evaluation import metrics
    from components.model.visual_cue import VisualCueEnhancement

__version__ = "0.2.0"
_PLACES = {
    "VisualCueEnhancement": "components.model.visual_cue",
    "adapters": "components.adapters",
    "costs": "components.costs",
    "metrics": "components.evaluation.metrics",
    "tree": "components.batching.tree",
}  # imported when they are first asked for
_ROOT = DualLoraConfig.__module__.removesuffix("components.adapters.dual_lora")  # empty in the repository

__all__ = [
    "DualLoraConfig",
    "LoraMoeConfig",
    "RodeConfig",
    "RouterWeights",
    "VisualCueEnhancement",
    "adapter_parameters",
    "adapters",
    "costs",
    "metrics",
    "tree",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_ROOT + _PLACES[name])
    return getattr(module, name, module)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
