"""Versions of the model in MLflow's registry: one for each model, known by its digest."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.digests import digest, file_digest
from components.errors import UserError
from components.files import write_json
from components.locks import lock
from components.params import Params
from components.tracking import bases, runs, store
from components.tracking.signature import MODEL_CONFIG, signature

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
MODEL_TAG, DATA_TAG, METRICS_TAG = "lea.model", "lea.data", "lea.metrics"
# What a version takes from models/finetune, as far as it is there.
PARTS = ("model.json", "connector.safetensors", "adapter", "language_model.safetensors")
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".index.json")
CODE = Path(__file__).parents[1]  # the `components` package
# What `components` imports to answer. Versions are those installed where the model is registered.
NEEDS = (
    "mlflow", "torch", "transformers", "peft", "safetensors", "huggingface_hub",
    "pillow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "rich",
)  # fmt: skip


@dataclass(frozen=True)
class Registered:
    name: str
    version: int
    digest: str
    new: bool  # False: this very model was there before


def model_digest(parts: Path) -> str:
    """SHA-256 over the parts that a version holds; model.json among them names the base by its digest."""
    files = []
    for name in PARTS:
        found = [parts / name] if (parts / name).is_file() else sorted((parts / name).rglob("*"))
        files += [path for path in found if path.is_file() and path.suffix != ".md"]  # PEFT writes a README
    return digest([[path.relative_to(parts).as_posix(), file_digest(path)] for path in files])


def register(
    parts: Path, base: Path, metrics: Mapping[str, float], params: Params, data: Mapping[str, str]
) -> Registered:
    """Register the model of `parts` as `candidate`, unless it is registered; then only the alias may move.

    metrics: flat, of the fine-tuned row. data: digest of every source (and of the splits) they were measured on.
    """
    settings = _settings(parts, base)
    name, own = params.registry.name, model_digest(parts)
    stated = {DATA_TAG: digest(dict(data)), METRICS_TAG: json.dumps(dict(metrics), sort_keys=True)}
    client = store.connect()
    uri = store.tracking_uri()
    with store.answering(uri), store.fluent(uri), lock("registry"):
        found = find_by_digest(client, name, own)
        if found is None:
            number = int(_create(client, parts, base, settings, own, metrics, params, data, stated).version)
        else:
            number = int(found.version)
            for key, value in stated.items():  # evaluated anew: other data, or other settings of the evaluation
                if found.tags.get(key) != value:
                    client.set_model_version_tag(name, str(number), key, value)
        if alias_version(client, name, CANDIDATE) != number:
            client.set_registered_model_alias(name, CANDIDATE, str(number))
    return Registered(name, number, own, new=found is None)


def find_by_digest(client: MlflowClient, name: str, own: str) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' and tags.`{MODEL_TAG}` = '{own}'")
    return min(found, key=lambda version: int(version.version), default=None)


def alias_version(client: MlflowClient, name: str, alias: str) -> int | None:
    """The version that an alias names, or None."""
    return aliases(client, name).get(alias)


def aliases(client: MlflowClient, name: str) -> dict[str, int]:
    from mlflow.exceptions import MlflowException

    try:
        return {alias: int(number) for alias, number in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise


def resolve(client: MlflowClient, name: str, which: str) -> ModelVersion:
    """The version by number or alias; a UserError that names what there is."""
    from mlflow.exceptions import MlflowException

    known = aliases(client, name)
    number = which if which.isdecimal() else str(known.get(which, ""))
    try:
        if number:
            return client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    versions = client.search_model_versions(f"name = '{name}'")
    if not versions:
        raise UserError(f"no model {name!r} in the registry at {store.shown(store.tracking_uri())}; run: dvc repro")
    numbers = sorted(int(version.version) for version in versions)
    there = f"versions {numbers[0]} to {numbers[-1]}, aliases {', '.join(sorted(known)) or 'none'}"
    raise UserError(f"model {name!r} has no version or alias {which!r}; it has {there}")


def version_metrics(version: ModelVersion) -> dict[str, float]:
    return json.loads(version.tags.get(METRICS_TAG, "{}"))


def _settings(parts: Path, base: Path) -> dict[str, Any]:
    """model.json, once it is sure that the parts are whole and belong to this base."""
    for path in (parts / "model.json", parts / "connector.safetensors", base / bases.REFERENCE_FILE):
        if not path.is_file():
            raise UserError(f"{path} is missing; run: dvc repro {path.parent.name}")
    settings = json.loads((parts / "model.json").read_text(encoding="utf-8"))
    if settings["adapter"] and not (parts / "adapter" / "adapter_config.json").is_file():
        raise UserError(f"{parts / 'adapter'} is missing; run: dvc repro {parts.name}")
    if settings.get("language_model") == "trained" and not (parts / "language_model.safetensors").is_file():
        raise UserError(f"{parts / 'language_model.safetensors'} is missing; run: dvc repro {parts.name}")
    reference = json.loads((base / bases.REFERENCE_FILE).read_text(encoding="utf-8"))
    if settings["base"]["digest"] != reference["digest"]:
        raise UserError(f"{parts} was trained on another base than {base} holds; run: dvc repro {parts.name}")
    return settings


def _create(
    client: MlflowClient,
    parts: Path,
    base: Path,
    settings: dict[str, Any],
    own: str,
    metrics: Mapping[str, float],
    params: Params,
    data: Mapping[str, str],
    stated: Mapping[str, str],
) -> ModelVersion:
    """Log the model into its training run, then make the version with all its tags in one call."""
    name = params.registry.name
    run = runs.find_or_create_run(client, settings.get("run") or own, "finetune")
    runs.log_datasets(client, run.info.run_id, data, "evaluation")
    with tempfile.TemporaryDirectory(prefix="lea-version-") as folder:
        files = Path(folder)
        _gather(files, parts, base)
        serving = {
            "copies": bases.keep(base, settings["base"]),
            "answering": {
                "max_new_tokens": params.evaluate.max_new_tokens,
                "batch": params.evaluate.batch,
                "max_pixels": params.data.max_pixels,
            },
        }
        write_json(files / "serving.json", serving)
        model = _log_model(run.info.run_id, files, own, metrics, name, params.evaluate.max_new_tokens)
    _make_room(client, name)
    adapter = (settings["adapter"] or {}).get("kind", "none")
    tags = {
        MODEL_TAG: own,
        **stated,
        "lea.run": settings.get("run") or "",
        "lea.base": settings["base"]["digest"],
        "lea.adapter": adapter,
        "lea.profile": params.profile,
    }
    return client.create_model_version(
        name, model.model_uri, run_id=run.info.run_id, model_id=model.model_id, tags=tags
    )


def _gather(files: Path, parts: Path, base: Path) -> None:
    """Lay out a version: parts/ and base/ (tokenizer, image processor, settings and reference; no weights)."""
    for name in PARTS:
        if (parts / name).is_dir():
            bases.link_tree(parts / name, files / "parts" / name)
        elif (parts / name).is_file():
            (files / "parts").mkdir(exist_ok=True)
            bases.link_or_copy(parts / name, files / "parts" / name)
    (files / "base").mkdir()
    reference = json.loads((base / bases.REFERENCE_FILE).read_text(encoding="utf-8"))
    for path in sorted(bases.place_of(base, reference).iterdir()):
        if path.is_file() and not path.name.endswith(WEIGHTS) and path.name != bases.REFERENCE_FILE:
            bases.link_or_copy(path, files / "base" / path.name)
    bases.link_or_copy(base / bases.REFERENCE_FILE, files / "base" / bases.REFERENCE_FILE)


def _log_model(run_id: str, files: Path, own: str, metrics: Mapping[str, float], name: str, max_new_tokens: int) -> Any:
    import mlflow

    with warnings.catch_warnings(), mlflow.start_run(run_id=run_id):
        warnings.filterwarnings("ignore", message="(?s).*(type hint|input example)")  # the signature is stated
        model = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(CODE / "serving" / "pyfunc_model.py"),
            artifacts={held: str(files / held) for held in ("parts", "base", "serving.json")},
            code_paths=[str(CODE)],
            signature=signature(max_new_tokens),
            model_config=MODEL_CONFIG,
            pip_requirements=[f"{package}=={version_of(package).partition('+')[0]}" for package in NEEDS],
            tags={MODEL_TAG: own},
        )
        mlflow.log_metrics({f"test.{key}": value for key, value in metrics.items()}, model_id=model.model_id)
    return model


def _make_room(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Local-Enhanced Adapters: parts to fit onto a base")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
