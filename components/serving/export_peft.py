"""`lea export peft FOLDER`: the adapter as a plain PEFT folder, with the connector and how to load both.

adapter_config.json  adapter_model.safetensors  connector.safetensors  model.json  README.md
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.files import fresh_folder
from components.serving.loading import artifacts, find_version
from components.tracking import registry

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CARD = """---
library_name: peft
base_model: {base_id}
license: other
---

# {name}, version {version}

{kind} for LLaVA, with its connector (projector and Visual Cue Enhancement), from a registry of Local-Enhanced Adapters.
The licence of the base and of the data hold for the weights; fill in `license` above before you pass them on.

It was trained on the LLaVA with digest `{base}` (id `{base_id}`, revision `{revision}`), whose connector it replaces.
In a checkout of Local-Enhanced Adapters, where this base is (`models/base`, say) and this folder is `adapter`:

    import json
    from pathlib import Path
    from peft import PeftModel
    from components.model.assemble import add_connector
    from components.model.base import load_base
    from components.model.weights import load_connector
    from components.params import Vce

    folder, base = Path("adapter"), load_base(Path("models/base")).model
    vce = json.loads((folder / "model.json").read_text())["vce"]
    add_connector(base, Vce(**vce) if vce else None)
    load_connector(base, folder)
    model = PeftModel.from_pretrained(base, str(folder))   # {peft_type}

Elsewhere `import local_enhanced_adapters` makes {peft_type} known to PEFT; the connector is then yours to put in place.

| | |
|---|---|
| digest of the trained parts | {digest} |
| digest of the data it was measured on | {data} |
{trained}

| metric | value |
|---|---|
{metrics}

On held-out questions. IoU, F1 and accuracy go from 0 to 1, BLEU and ROUGE-L to 100; nutrition: errors in percent.
"""


def export_peft(model: str, folder: Path) -> ModelVersion:
    """Write the folder; UserError where the version has no adapter or the folder is there."""
    if folder.exists():
        raise UserError(f"{folder} is there already; give a new folder")
    version = find_version(model)
    with artifacts(version) as (held, own):
        parts = held / "parts"
        settings = json.loads((parts / "model.json").read_text(encoding="utf-8"))
        if not settings["adapter"]:
            raise UserError(f"{version.name} version {version.version} has no adapter, but a trained language model")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with fresh_folder(folder) as aside:
            for path in (parts / "adapter").glob("adapter_*"):
                shutil.copyfile(path, aside / path.name)
            for name in ("connector.safetensors", "model.json"):
                shutil.copyfile(parts / name, aside / name)
            (aside / "README.md").write_text(_card(version, own, settings, aside), encoding="utf-8")
    return version


def _card(version: ModelVersion, own: str, settings: dict[str, Any], folder: Path) -> str:
    base = settings["base"]
    peft_type = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["peft_type"]
    metrics = "\n".join(f"| {name} | {value:.4g} |" for name, value in registry.version_metrics(version).items())
    trained = "\n".join(f"| digest of {name} | {digest} |" for name, digest in sorted(settings["data"].items()))
    return CARD.format(
        name=version.name,
        version=version.version,
        kind=settings["adapter"]["kind"],
        peft_type=peft_type,
        base=base["digest"],
        base_id=base["id"],
        revision=base["revision"],
        digest=own,
        data=version.tags.get(registry.DATA_TAG, "unknown"),
        trained=trained or "| sources | none stated |",
        metrics=metrics or "| none | |",
    )
