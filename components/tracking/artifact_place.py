"""Where a store keeps files: on this machine only where the store itself is a file of this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from components.errors import UserError
from components.masking import masked


def is_server(uri: str) -> bool:
    """Whether `uri` names an MLflow server, which has users and a place for files."""
    return uri.startswith(("http:", "https:", "databricks"))


def of_new(uri: str, here: Path, experiment: str) -> str | None:
    """The place of a new experiment's files; None: the server says. UserError where others could not find them.

    here: a folder of this machine, for a store that is a file here.
    """
    if is_server(uri):
        return None
    if _is_shared(uri):
        raise UserError(
            f"MLFLOW_TRACKING_URI: {masked(uri)} is a database and holds no files: those of versions would lie in "
            f"{here} of this machine alone; name an MLflow server in front of it, or give it a place for them: "
            f"mlflow experiments create -n {experiment} -l s3://BUCKET/FOLDER"
        )
    return here.as_uri()


def check(uri: str, place: str, experiment: str) -> None:
    """UserError where a shared store keeps an experiment's files in a folder that is not on this machine."""
    parts = urlsplit(place)
    if not _is_shared(uri) or parts.scheme not in ("", "file"):
        return
    folder = Path(unquote(parts.path) if parts.scheme else place)
    if not folder.parent.is_dir():  # MLflow would make it, here, and write files that nobody else finds
        raise UserError(
            f"MLflow at {masked(uri)} keeps the files of experiment {experiment!r} in {folder}, which is not on this "
            "machine; start the server with --artifacts-destination s3://BUCKET/FOLDER and a new database"
        )


def _is_shared(uri: str) -> bool:
    """Whether other machines may use the store: a server or a database server, not a file here."""
    return urlsplit(uri).scheme.partition("+")[0] not in ("", "file", "sqlite")
