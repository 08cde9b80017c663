"""What a finished run leaves: connector, adapter or language model, and model.json, in its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.files import fresh_folder, write_text
from components.model.stored import SETTINGS_FILE, model_digest, path_free, read_settings
from components.training.job import Job

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

log = logging.getLogger(__name__)
PARTS, PARTS_DIGEST = "parts", "parts.sha256"  # in a run's folder; the digest comes last


def parts_of(job: Job) -> Path | None:
    """The folder of a finished run's parts, or None: also where they are not what was written.

    Then the run writes them again, from its last checkpoint.
    """
    folder, stated = job.folder / PARTS, job.folder / PARTS_DIGEST
    if not (folder / SETTINGS_FILE).is_file() or not stated.is_file():
        return None
    if stated.read_text(encoding="utf-8", errors="replace").strip() != model_digest(folder):
        log.warning("%s is not what the run wrote; it is written again from the last checkpoint", folder)
        return None
    return folder


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
        own = model_digest(folder)
    write_text(job.folder / PARTS_DIGEST, own + "\n")
