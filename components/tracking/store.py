"""Where runs and versions are kept: a server by MLFLOW_TRACKING_URI, else sqlite in the home folder."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from components.digests import digest
from components.errors import UserError
from components.locks import lock
from components.masking import masked
from components.tracking import artifact_place
from components.tracking.relocation import relocate
from components.workspace import home

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "lea"
REMEDY = "run: dvc repro (outside the repository set LEA_HOME to its .lea)"

# Read by MLflow from the environment only. What the user has set stays.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that is away must be noticed in seconds: MLflow's own values wait for many minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
UPLOAD_TIMEOUT_S = "300"  # the server answers an upload only when it has stored it


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, else the absolute URI of the sqlite file in the home folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or _sqlite(_own_database())
    try:
        urlsplit(uri)
    except ValueError as error:  # http://[::1
        raise UserError(f"MLFLOW_TRACKING_URI is no address of an MLflow server: {str(error).lower()}") from None
    return uri


def _sqlite(database: Path) -> str:
    """The URI of a database file: SQLAlchemy decodes percent signs and reads options behind a question mark."""
    path = str(database)
    quoted = path.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    # MLflow makes a folder under the quoted name where a URI begins with sqlite:///
    return f"sqlite:///{path}" if quoted == path else f"sqlite+pysqlite:///{quoted}"


def _own_database() -> Path:
    return home() / "mlflow" / "mlflow.db"


def artifacts_folder() -> Path:
    """Where a database without a server keeps files."""
    return home() / "mlflow" / "artifacts"


def is_there() -> bool:
    """Whether a server is named, or the home folder has a database."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or _own_database().exists() or home().is_file()


def connect_to_read() -> MlflowClient:
    """As `connect`, for what is of use only once something is stored: the home folder's database is not made for it."""
    if not is_there():
        raise UserError(f"nothing is registered yet: {_own_database()} is missing; {REMEDY}")
    return connect()


def connect() -> MlflowClient:
    """A client whose store answers and holds the experiment. UserError where it does not answer."""
    _set_defaults()
    uri = tracking_uri()
    with answering(uri):
        from mlflow import MlflowClient

        with lock("mlflow"):  # the first use of a database creates its tables
            if not os.environ.get("MLFLOW_TRACKING_URI"):
                if not _own_database().exists():
                    _create(_own_database())
                relocate(_own_database(), EXPERIMENT, artifacts_folder())
            client = MlflowClient(tracking_uri=uri)
            experiment_id(client)
    return client


def _create(database: Path) -> None:
    """Make the tables aside: a full disk or a kill among them must not leave a database that no one can use."""
    from mlflow import MlflowClient

    database.parent.mkdir(parents=True, exist_ok=True)
    for left in database.parent.glob(f".{database.name}.*"):
        left.unlink()
    aside = database.with_name(f".{database.name}.{uuid4().hex}")  # MLflow keeps a name's connection while we live
    MlflowClient(tracking_uri=_sqlite(aside)).search_experiments(max_results=1)
    aside.replace(database)


def experiment_id(client: MlflowClient) -> str:
    """The experiment's id; it is created at first use.

    A database without a server would put artifacts under the current folder, so it is given a place.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        where = artifact_place.of_new(client.tracking_uri, artifacts_folder(), EXPERIMENT)
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=where)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(EXPERIMENT)  # another process was quicker
            assert found is not None
    if found.lifecycle_stage == "deleted":
        number = found.experiment_id
        raise UserError(
            f"MLflow experiment {EXPERIMENT!r} was deleted; run: mlflow experiments restore --experiment-id {number}"
        )
    artifact_place.check(client.tracking_uri, found.artifact_location, EXPERIMENT)
    return found.experiment_id


def identity(client: MlflowClient) -> str:
    """What tells this store from others: the experiment that it made; a moved workspace keeps it."""
    found = client.get_experiment(experiment_id(client))
    return f"{found.experiment_id}-{found.creation_time}"


def registry_identity(client: MlflowClient) -> str:
    """What tells this registry from others: MLflow's own variable may name one apart from the store of the runs."""
    apart, own = os.environ.get("MLFLOW_REGISTRY_URI"), identity(client)
    return f"{own}-{digest(apart)[:12]}" if apart and apart != tracking_uri() else own


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn whatever a store does when it is away or refuses into one line."""
    try:
        import requests.exceptions
        import sqlalchemy.exc
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise UserError(f"mlflow cannot be imported ({first_line(error)}); install the project again") from None
    try:
        yield
    except (MlflowException, requests.exceptions.RequestException, sqlalchemy.exc.SQLAlchemyError) as error:
        raise UserError(_complaint(uri, error)) from error
    except (ModuleNotFoundError, OSError) as error:  # a database without its driver; a folder not writable
        raise UserError(_complaint(uri, error)) from error


def _complaint(uri: str, error: Exception) -> str:
    code = getattr(error, "error_code", "")
    if code == "UNAUTHENTICATED":
        return (
            f"MLflow at {masked(uri)} does not know user {_server_user() or 'none'} with this password; "
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    remedy = "see that it runs and answers there, or unset MLFLOW_TRACKING_URI to use the local store"
    if code == "PERMISSION_DENIED":
        what = f"experiment {EXPERIMENT} and the registered models of registry.name and its promotion log"
        remedy = f"its administrator must let {_server_user() or 'everybody'} edit {what}"
    elif isinstance(error, ModuleNotFoundError):
        remedy = "name an MLflow server before the database (http://..), or install the database's driver with pip"
    elif not os.environ.get("MLFLOW_TRACKING_URI"):
        remedy = f"see that {home() / 'mlflow'} can be written to, or set MLFLOW_TRACKING_URI to a server"
    return f"MLflow at {masked(uri)} cannot be used: {first_line(error)}; {remedy}"


def first_line(error: BaseException, length: int = 160) -> str:
    """What went wrong, from a message that may run over many lines and quote a password."""
    text = masked(next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__))
    if "Connection refused" in str(error):
        text = "connection refused"
    elif "Name or service not known" in str(error) or "Failed to resolve" in str(error):
        text = "no machine of this name is known here"
    elif "timed out" in str(error):
        text = "no answer in time"
    return text if len(text) <= length else f"{text[: length - 3]}..."


@contextmanager
def fluent(uri: str) -> Iterator[None]:
    """Let MLflow's module functions (log_model, load_model) use `uri`, with time for large files."""
    _set_defaults()
    changes = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": UPLOAD_TIMEOUT_S}
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def insert(write: Callable[[], object]) -> None:
    """Set a tag or an alias. Of two processes that set a new one at once, MLflow's store fails the second: once more,
    it finds the row and changes it."""
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException as error:
        if "IntegrityError" not in str(error) and "UniqueViolation" not in str(error):
            raise
        write()


def late_s() -> float:
    """Seconds after which a server no longer carries out a request that was given up and made again; 0 for our file."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return 0.0
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    return 2.0 * MLFLOW_HTTP_REQUEST_TIMEOUT.get() * (1 + MLFLOW_HTTP_REQUEST_MAX_RETRIES.get())


def who() -> str:
    """The user, for logs: the tracking server's where there is one; containers run under numbers without a name."""
    served = _server_user()
    if served:
        return served
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _server_user() -> str | None:
    """Who logs in at the tracking server, as MLflow finds it: environment, ~/.mlflow/credentials, address."""
    uri = tracking_uri()
    if not artifact_place.is_server(uri):
        return None
    from mlflow.utils.credentials import read_mlflow_creds

    return read_mlflow_creds().username or urlsplit(uri).username


def _set_defaults() -> None:
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
