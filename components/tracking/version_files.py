"""The files of a version: laid out from what was trained, logged, verified, put back, and read again."""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.files import fresh_folder, write_json
from components.model.stored import PARTS, model_digest, path_free, read_reference
from components.params import Params
from components.tracking import bases, store
from components.tracking.signature import MODEL_CONFIG, signature
from components.workspace import home

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

MODEL_TAG = "lea.model"
DAMAGED_TAG = "lea.damaged"  # of a version whose files were read and were not those that were registered
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".index.json")
CODE = Path(__file__).parents[1]  # the `components` package
# What `components` imports to answer. Versions are those installed where the model is registered.
NEEDS = (
    "mlflow", "torch", "transformers", "peft", "safetensors", "huggingface_hub",
    "pillow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "rich",
)  # fmt: skip


@contextmanager
def laid_out(parts: Path, base: Path, params: Params) -> Iterator[Path]:
    """A folder with the files of a version."""
    with tempfile.TemporaryDirectory(prefix="lea-version-") as folder:
        files = Path(folder)
        _gather(files, parts, base)
        serving = {
            "copies": bases.keep(base, read_reference(base)),
            "answering": {
                "max_new_tokens": params.evaluate.max_new_tokens,
                "batch": params.evaluate.batch,
                "max_pixels": params.data.max_pixels,
            },
        }
        write_json(files / "serving.json", serving)
        yield files


def log(run_id: str, files: Path, own: str, metrics: Mapping[str, float], name: str) -> Any:
    """Log the model of `laid_out` files into its run; returns what MLflow says of it."""
    import mlflow

    with _quiet(), mlflow.start_run(run_id=run_id):
        model = mlflow.pyfunc.log_model(name=name, tags={MODEL_TAG: own}, **_as_pyfunc(files))
        mlflow.log_metrics({f"test.{key}": value for key, value in metrics.items()}, model_id=model.model_id)
    return model


def repair(client: MlflowClient, version: ModelVersion, parts: Path, base: Path, params: Params) -> bool:
    """Put a version's files back where they are missing or others than when they were registered.

    Files on this machine are read. To read those of another store would take long at each `dvc repro`: they are
    listed, and put back where whoever loaded the version has marked it.
    """
    place = client.get_model_version_download_uri(version.name, str(version.version))
    bases.keep(base, read_reference(base))
    held, marked = _local(place), DAMAGED_TAG in version.tags
    whole = _local_holds(held, version) if held else not marked and _listed(place, parts)
    if not whole:
        _put_back(place, parts, base, params)
    if marked:
        client.delete_model_version_tag(version.name, str(version.version), DAMAGED_TAG)
    return not whole


def _put_back(place: str, parts: Path, base: Path, params: Params) -> None:
    """On this machine the files are written aside first: another home may be reading them."""
    import mlflow
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with laid_out(parts, base, params) as files, tempfile.TemporaryDirectory(prefix="lea-model-") as folder:
        with _quiet():
            mlflow.pyfunc.save_model(f"{folder}/model", **_as_pyfunc(files))
        if folder_here := _local(place):
            with fresh_folder(folder_here) as aside:
                bases.link_tree(Path(folder, "model"), aside)
        else:
            get_artifact_repository(place).log_artifacts(f"{folder}/model")


def _local(place: str) -> Path | None:
    """The folder of a file: URI; None for another store."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(local_file_uri_to_path(place)) if place.startswith("file:") else None


def _local_holds(held: Path, version: ModelVersion) -> bool:
    """Whether a version's files on this machine are whole. Its base may lie elsewhere for each home that reads them."""
    parts = held / "artifacts" / "parts"
    return (held / "MLmodel").is_file() and _is_readable(held) and model_digest(parts) == version.tags[MODEL_TAG]


def _is_readable(held: Path) -> bool:
    """Whether serving.json is there and JSON: each home that registers the model writes another one."""
    try:
        json.loads((held / "artifacts" / "serving.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _listed(place: str, parts: Path) -> bool:
    """Whether another store has what the model is loaded by, and all files of the parts in their sizes."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository, root = get_artifact_repository(place), "artifacts/parts"
    folders = [None, "artifacts", root, *(f"{root}/{name}" for name in PARTS if (parts / name).is_dir())]
    stored = {file.path: file.file_size for folder in folders for file in repository.list_artifacts(folder)}
    if not stored.keys() >= {"MLmodel", "artifacts/serving.json"}:
        return False
    named = [parts / name for name in PARTS]
    own = [file for path in named for file in ([path] if path.is_file() else path.glob("*")) if file.is_file()]
    return all(stored.get(f"{root}/{file.relative_to(parts).as_posix()}") == file.stat().st_size for file in own)


@contextmanager
def fetched(version: ModelVersion) -> Iterator[Path]:
    """The folder of a version: where the store keeps it on this machine, else a copy for the time of the block.

    MLflow's own way would decode a percent sign in the folder's path a second time.
    """
    uri = store.tracking_uri()
    with store.answering(uri):
        place = store.connect().get_model_version_download_uri(version.name, str(version.version))
    folder_here = _local(place)
    if folder_here is not None:
        yield folder_here
        return
    home().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="version-", dir=home()) as folder:
        with store.answering(uri), store.fluent(uri):
            from mlflow.artifacts import download_artifacts

            held = download_artifacts(f"models:/{version.name}/{version.version}", dst_path=folder)
        yield Path(held)


def verified(version: ModelVersion, held: Path) -> str:
    """The digest of a version's weights in its folder, which is the registered one.

    UserError for other files; the version is marked, so that `register` puts them back.
    """
    own, registered = model_digest(held / "artifacts" / "parts"), version.tags.get(MODEL_TAG)
    if own == registered and _is_readable(held):
        return own
    if registered:
        _mark(version)
    raise _damaged(version, f"digest {own[:12]}, registered {(registered or 'none')[:12]}")


def check(client: MlflowClient, version: ModelVersion) -> None:
    """UserError where nobody could load a version: an alias must not move to it.

    Files on this machine are read; of those of another store the mark says what the last one who loaded them found.
    """
    held = _local(client.get_model_version_download_uri(version.name, str(version.version)))
    if held is not None:
        verified(version, held)
    elif DAMAGED_TAG in version.tags:
        raise _damaged(version, "found when it was loaded")


def _damaged(version: ModelVersion, how: str) -> UserError:
    return UserError(
        f"the files of {version.name} version {version.version} are missing or damaged in the artifact store ({how}); "
        "run where it was trained: dvc repro register"
    )


def _mark(version: ModelVersion) -> None:
    from mlflow.exceptions import MlflowException

    client, name, number = store.connect(), version.name, str(version.version)
    try:
        store.insert(lambda: client.set_model_version_tag(name, number, DAMAGED_TAG, "yes"))
    except MlflowException as error:
        print(
            f"tracking: {name} version {number} cannot be marked for dvc repro register ({store.first_line(error)}); "
            "whoever may write to the registry loads it once",
            file=sys.stderr,
        )


@contextmanager
def opened(version: ModelVersion) -> Iterator[tuple[Path, Path]]:
    """A version's parts and a folder that refers to its base, both verified by their digests.

    UserError where either cannot be had on this machine.
    """
    with fetched(version) as place:
        verified(version, place)
        parts, serving = (place / "artifacts" / held for held in ("parts", "serving.json"))
        reference = json.loads((parts / "model.json").read_text(encoding="utf-8"))["base"]
        copies = json.loads(serving.read_text(encoding="utf-8"))["copies"]
        with bases.referred(reference, bases.find(reference, copies)) as base:
            yield parts, base


def _gather(files: Path, parts: Path, base: Path) -> None:
    """Lay out a version: parts/ and base/ (tokenizer, image processor, settings and reference; no weights)."""
    for name in PARTS:
        if (parts / name).is_dir():
            bases.link_tree(parts / name, files / "parts" / name)
        elif (parts / name).is_file():
            (files / "parts").mkdir(exist_ok=True)
            bases.link_or_copy(parts / name, files / "parts" / name)
    (files / "base").mkdir()
    reference = read_reference(base)
    for path in sorted(bases.place_of(base, reference).iterdir()):
        if path.is_file() and not path.name.endswith(WEIGHTS) and path.name != bases.REFERENCE_FILE:
            bases.link_or_copy(path, files / "base" / path.name)
    write_json(files / "base" / bases.REFERENCE_FILE, path_free(reference))


def _as_pyfunc(files: Path) -> dict[str, Any]:
    """What MLflow needs to know of the model, beside its name."""
    answering = json.loads((files / "serving.json").read_text(encoding="utf-8"))["answering"]
    return {
        "python_model": str(CODE / "serving" / "pyfunc_model.py"),
        "artifacts": {held: str(files / held) for held in ("parts", "base", "serving.json")},
        "code_paths": [str(CODE)],
        "signature": signature(answering["max_new_tokens"]),
        "model_config": MODEL_CONFIG,
        "pip_requirements": [f"{package}=={version_of(package).partition('+')[0]}" for package in NEEDS],
    }


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*(type hint|input example)")  # the signature is stated
        yield
