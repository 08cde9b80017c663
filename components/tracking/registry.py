"""Versions of the model in MLflow's registry: one for each model, known by its digest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.digests import digest
from components.errors import UserError
from components.locks import lock
from components.masking import masked
from components.model.stored import model_digest, read_reference, read_settings
from components.params import Params
from components.tracking import bases, promotion_log, records, runs, store, version_files
from components.tracking.records import Record
from components.tracking.version_files import MODEL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE, CHAMPION = "candidate", "champion"
DIGITS = 9  # of a version's number: MLflow's databases keep it in 32 bits and fail on a larger one
# METRICS_TAG: the figures of the version's own record, for readers of MLflow's pages.
DATA_TAG, METRICS_TAG = "lea.data", "lea.metrics"


@dataclass(frozen=True)
class Registered:
    name: str
    version: int
    digest: str
    new: bool  # False: this very model was there before


def register(parts: Path, base: Path, record: Record, params: Params) -> Registered:
    """Register the model of `parts` as `candidate`, with what was measured of it.

    A model that is registered keeps its figures: a record of other conditions is added to it, and the alias may move.
    """
    settings = _settings(parts, base)
    name, own = params.registry.name, model_digest(parts)
    client = store.connect()
    uri = store.tracking_uri()
    with store.answering(uri), store.fluent(uri), lock("registry"):
        known = find_by_digest(client, name, own)
        made = None if known else _create(client, parts, base, settings, own, record, params)
        first = _only_one(client, name, own)  # another home may have been quicker than our look or our making
        number = int(first.version)
        if made is None and version_files.repair(client, first, parts, base, params):
            print(f"register: the files of {name} version {number} were missing or changed; they are put back")
        new = made is not None and int(made.version) == number
        if not new:
            records.add(client, first, record)
        if alias_version(client, name, CANDIDATE) != number:
            store.insert(lambda: client.set_registered_model_alias(name, CANDIDATE, str(number)))
    return Registered(name, number, own, new)


def find_by_digest(client: MlflowClient, name: str, own: str) -> ModelVersion | None:
    """The oldest version of a model, which is the only one but for a moment."""
    return next(iter(_by_digest(client, name, own)), None)


def _by_digest(client: MlflowClient, name: str, own: str) -> list[ModelVersion]:
    found = client.search_model_versions(f"name = '{name}' and tags.`{MODEL_TAG}` = '{own}'")
    return sorted(found, key=lambda version: int(version.version))


def _only_one(client: MlflowClient, name: str, own: str) -> ModelVersion:
    """The oldest version of a model, once the younger ones are gone.

    MLflow has no unique tag, but it numbers versions one by one: of two homes that register a model at the same time
    both look again, and both keep the same version. A younger one that a stopped command left is removed here too,
    unless it was promoted meanwhile.
    """
    from mlflow.exceptions import MlflowException

    first, *younger = _by_digest(client, name, own)
    known = promotion_log.read(client, name).versions if younger else set()
    taken = known | (set(aliases(client, name).values()) if younger else set())
    for version in younger:
        number = int(version.version)
        if number in taken:
            continue
        for record in records.each(version):  # what was measured of it stays known
            records.add(client, first, record)
        try:
            client.delete_model_version(name, str(number))
        except MlflowException as error:
            if error.error_code == "PERMISSION_DENIED":
                print(f"register: {name} version {number} is version {first.version} again; you may not delete it")
            elif error.error_code != "RESOURCE_DOES_NOT_EXIST":  # the other home has removed it
                raise
    return first


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


def versions(client: MlflowClient, name: str) -> dict[int, ModelVersion]:
    """All versions of a model by their numbers."""
    return {int(one.version): one for one in client.search_model_versions(f"name = '{name}'")}


def resolve(client: MlflowClient, name: str, which: str) -> ModelVersion:
    """The version by number or alias; a UserError that names what there is."""
    from mlflow.exceptions import MlflowException

    known = aliases(client, name)
    number = which if which.isdecimal() else str(known.get(which, ""))
    if len(number) > DIGITS:
        number = ""
    try:
        if number:
            return client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    there = versions(client, name)
    if not there:
        raise UserError(f"no model {name!r} in the registry at {masked(store.tracking_uri())}; {store.REMEDY}")
    span = f"versions {min(there)} to {max(there)}" if len(there) > 1 else f"version {min(there)}"
    held = f"{span}, aliases {', '.join(sorted(known)) or 'none'}"
    raise UserError(f"model {name!r} has no version or alias {which[:80]!r}; it has {held}")


def version_metrics(version: ModelVersion) -> dict[str, float]:
    """The figures of the evaluation that made the version."""
    return json.loads(version.tags.get(METRICS_TAG, "{}"))


def _settings(parts: Path, base: Path) -> dict[str, Any]:
    """model.json, once it is sure that the parts are whole and belong to this base."""
    for path in (parts / "model.json", parts / "connector.safetensors", base / bases.REFERENCE_FILE):
        if not path.is_file():
            raise UserError(f"{path} is missing; run: dvc repro {path.parent.name}")
    settings = read_settings(parts)
    if settings["adapter"] and not (parts / "adapter" / "adapter_config.json").is_file():
        raise UserError(f"{parts / 'adapter'} is missing; run: dvc repro {parts.name}")
    if settings.get("language_model") == "trained" and not (parts / "language_model.safetensors").is_file():
        raise UserError(f"{parts / 'language_model.safetensors'} is missing; run: dvc repro {parts.name}")
    if settings["base"]["digest"] != read_reference(base)["digest"]:
        raise UserError(f"{parts} was trained on another base than {base} holds; run: dvc repro {parts.name}")
    return settings


def _create(
    client: MlflowClient,
    parts: Path,
    base: Path,
    settings: dict[str, Any],
    own: str,
    record: Record,
    params: Params,
) -> ModelVersion:
    """Log the model into its training run, then make the version with all its tags in one call."""
    name = params.registry.name
    run = runs.find_or_create_run(client, settings.get("run") or own, "finetune")
    data = record.measured["data"]
    runs.log_datasets(client, run.info.run_id, data, "evaluation")
    with version_files.laid_out(parts, base, params) as files:
        model = version_files.log(run.info.run_id, files, own, record.figures, name)
    _make_room(client, name)
    adapter = (settings["adapter"] or {}).get("kind", "none")
    tags = {
        MODEL_TAG: own,
        DATA_TAG: digest(dict(data)),
        METRICS_TAG: json.dumps(dict(record.figures), sort_keys=True),
        records.OWN_TAG: records.as_tag(record),
        "lea.run": settings.get("run") or "",
        "lea.base": settings["base"]["digest"],
        "lea.adapter": adapter,
        "lea.profile": params.profile,
    }
    return client.create_model_version(
        name, model.model_uri, run_id=run.info.run_id, model_id=model.model_id, tags=tags
    )


def _make_room(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Local-Enhanced Adapters: parts to fit onto a base")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
