"""What a model answered, kept in the tracking store with the run that trained it: a copy for each set of conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import UserError
from components.tracking import store
from components.tracking.runs import RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "evaluation"  # of a run's artifacts; in it a folder for each key


def keep(client: MlflowClient, run_id: str, key: str, files: Sequence[Path]) -> None:
    """Put the files of an evaluation beside its run, once; `key`: digest of its conditions.

    What a stopped command or a lost connection left in part is written again.
    """
    place = f"{FOLDER}/{key}"
    stored = {Path(item.path).name: item.file_size for item in client.list_artifacts(run_id, place)}
    if any(stored.get(file.name) != file.stat().st_size for file in files):
        for file in files:
            client.log_artifact(run_id, str(file), place)


def fetch(client: MlflowClient, run_id: str, aside: Path) -> dict[str, Path]:
    """The folders that were kept, by key, copied into `aside`."""
    with store.fluent(store.tracking_uri()):
        return {
            key: Path(client.download_artifacts(run_id, f"{FOLDER}/{key}", str(aside))) for key in _keys(client, run_id)
        }


def find_run(client: MlflowClient, name: str) -> str | None:
    """MLflow's id of the run that a training run's name (`finetune-0123456789abcdef`) or MLflow's own id names."""
    found = client.search_runs([store.experiment_id(client)], f"tags.`{RUN_TAG}` = '{name}'", max_results=1)
    if found:
        return found[0].info.run_id
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(name).info.run_id
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise UserError(f"run {name}: {store.first_line(error, 200)}") from None


def _keys(client: MlflowClient, run_id: str) -> list[str]:
    return sorted(Path(item.path).name for item in client.list_artifacts(run_id, FOLDER) if item.is_dir)
