"""A registered version as an assistant that answers, read by the installed code: none of the version's code is run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.tracking import bases, registry, store, version_files

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from components.evaluation.inference.assistant import Assistant

URI = re.compile(r"models:/(?P<name>[A-Za-z0-9_-]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
FORMS = "models:/NAME@ALIAS or models:/NAME/VERSION"


@dataclass(frozen=True)
class Loaded:
    """A model in memory and what is known of it.

    Attributes:
        version: its number, None for a folder.
        answering: max_new_tokens, batch, max_pixels as it was registered with.
        metrics: flat, as they were measured before it was registered.
    """

    assistant: Assistant
    name: str
    version: int | None
    digest: str
    base: str
    adapter: str
    answering: dict[str, int]
    metrics: dict[str, float] = field(default_factory=dict)


def find_version(model: str) -> ModelVersion:
    """The version that `models:/NAME@ALIAS` or `models:/NAME/VERSION` names."""
    parts = URI.fullmatch(model)
    if parts is None:
        raise UserError(f"--model {model}: give {FORMS}")
    client = store.connect_to_read()
    with store.answering(store.tracking_uri()):
        return registry.resolve(client, parts["name"], parts["alias"] or parts["version"])


def load_version(version: ModelVersion, others: Iterable[Any] = ()) -> Loaded:
    """Read a version; its weights are compared with the digest that it was registered under.

    others: models in memory, with which it shares the tensors that are equal: those of one base.
    """
    with artifacts(version) as (folder, own):
        return _load(folder, version.name, int(version.version), own, registry.version_metrics(version), others)


def load_folder(folder: Path) -> Loaded:
    """Read the folder of a logged model. Its pyfunc code is not run."""
    inside = folder / "artifacts"
    if not (folder / "MLmodel").is_file() or not (inside / "serving.json").is_file():
        raise UserError(f"--model {folder}: give {FORMS}, or the folder of a logged model (MLmodel, artifacts/)")
    return _load(inside, folder.name, None, registry.model_digest(inside / "parts"), {}, ())


@contextmanager
def artifacts(version: ModelVersion) -> Iterator[tuple[Path, str]]:
    """The folder `artifacts` of a version, from wherever the store keeps it, and the digest of its weights."""
    with version_files.fetched(version) as place:
        yield place / "artifacts", version_files.verified(version, place)


def _load(
    folder: Path,
    name: str,
    number: int | None,
    own: str,
    metrics: Mapping[str, float],
    others: Iterable[Any],
) -> Loaded:
    from components.evaluation.inference.assistant import load_assistant

    parts = folder / "parts"
    try:
        settings = json.loads((parts / "model.json").read_text(encoding="utf-8"))
        serving = json.loads((folder / "serving.json").read_text(encoding="utf-8"))
        template, image, base = settings["template"], settings["image"], settings["base"]
        copies, answering = serving["copies"], serving["answering"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no version of this project ({type(error).__name__}: {error})") from None
    place = bases.find(base, copies)
    with bases.referred(base, place) as referred:
        assistant = load_assistant(referred, parts, template=template, image=image)
    share_base(assistant.model, others)
    _to_device(assistant.model)
    kind = (settings["adapter"] or {}).get("kind", "none")
    return Loaded(assistant, name, number, own, base["digest"], kind, answering, dict(metrics))


def share_base(model: Any, others: Iterable[Any]) -> int:
    """Let parameters that equal one of another model's use its memory; returns the bytes shared."""
    import torch

    shared = 0
    for other in others:
        held = {_base_name(name): parameter.data for name, parameter in other.named_parameters()}
        for name, parameter in model.named_parameters():
            same = held.get(_base_name(name))
            if same is None or same.shape != parameter.shape or same.dtype != parameter.dtype:
                continue
            if same.data_ptr() != parameter.data_ptr() and torch.equal(same, parameter.data.to(same.device)):
                parameter.data = same
                shared += same.numel() * same.element_size()
    return shared


def _base_name(name: str) -> str:
    """A parameter's name without what an adapter puts around its layer."""
    return name.replace(".base_layer.", ".")


def _to_device(model: Any) -> None:
    import torch

    if torch.cuda.is_available():
        model.to("cuda")
