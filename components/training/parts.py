"""What a finished run leaves: connector, adapter or language model, and model.json, in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.files import fresh_folder
from components.model.stored import SETTINGS_FILE, path_free, read_settings
from components.training.job import Job

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

PARTS = "parts"  # in a run's folder


def parts_of(job: Job) -> Path | None:
    """The folder of a finished run's parts, or None."""
    folder = job.folder / PARTS
    return folder if (folder / SETTINGS_FILE).exists() else None


def write_parts(
    job: Job, reference: Mapping[str, Any], weights: Mapping[str, Tensor], wrapped: PeftModel | None
) -> None:
    """Store what a run has learnt.

    Args:
        reference: which base it was trained on.
        weights: every trained tensor by its name in the model.
        wrapped: the model with its adapter, or None where there is none.
    """
    from components.model.weights import save_parts

    settings: dict[str, Any] = {
        "base": path_free(reference),
        "connector": "vlora" if job.vlora else "projector",
        "vlora": job.vlora.model_dump() if job.vlora else None,
        "vce": job.vce.model_dump() if job.vce else None,
        "adapter": job.adapter.model_dump() if job.adapter else None,
        "language_model": "trained" if job.trains_language_model else "frozen",
        "template": job.recipe.template,
        "image": job.recipe.image,
        "run": job.folder.name,
        "data": {**(read_settings(job.start)["data"] if job.start else {}), **job.sources},
    }
    with fresh_folder(job.folder / PARTS) as folder:
        save_parts(folder, settings, weights, wrapped)
