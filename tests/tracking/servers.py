"""Servers of a team, on loopback, started and stopped by the tests: PostgreSQL, an S3 store, MLflow with basic auth."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import requests

ADMIN, PASSWORD = "admin", "admin-of-the-tests"
USERS = ("ada", "grace")
START_S = 120
SCRIPT = Path(__file__).parents[2] / "infra/compose/mlflow.sh"
BUCKET, KEYS = "lea-registry", ("tests", "secret-of-the-tests")


@dataclass(frozen=True)
class Server:
    """An MLflow server as its clients see it: an address, users and a password."""

    url: str
    database: str  # the PostgreSQL URI behind it
    s3: str

    @property
    def files(self) -> Any:
        """A client of the S3 store itself."""
        import boto3

        keys = {"aws_access_key_id": KEYS[0], "aws_secret_access_key": KEYS[1]}
        return boto3.client("s3", endpoint_url=self.s3, region_name="us-east-1", **keys)

    def environment(self, user: str) -> dict[str, str]:
        """All that a client needs."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        }


@contextmanager
def team_server(folder: Path) -> Iterator[Server]:
    """infra/compose/mlflow.sh on PostgreSQL; files go through the server to S3. Skips where something is missing."""
    for module, package in (("psycopg2", "psycopg2-binary"), ("flask_wtf", "mlflow[auth]"), ("moto", "moto[server]")):
        if find_spec(module) is None:
            pytest.skip(f"{package} is not installed; run: make test-service")
    with postgres(folder) as database, s3_store() as s3, _mlflow(folder, database, s3) as url:
        for user in USERS:
            answer = requests.post(
                f"{url}/api/2.0/mlflow/users/create",
                json={"username": user, "password": PASSWORD},
                auth=(ADMIN, PASSWORD),
                timeout=30,
            )
            assert answer.ok, answer.text
        yield Server(url, database, s3)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with a database `mlflow`; its URI. It refuses to run as root."""
    places = os.pathsep.join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])  # Debian's
    initdb, server = (shutil.which(name, path=places) for name in ("initdb", "postgres"))
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed: initdb or postgres is not found")
    port, data, secret = free_port(), folder / "postgres", folder / "secret"
    data.mkdir(parents=True)
    secret.write_text(PASSWORD)
    prefix = _as_postgres(data, secret)
    login = ["-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={secret}"]
    command = [*prefix, initdb, "-D", str(data), "--no-sync", *login]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=data)
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}", "-F"]
    with _running([*prefix, server, "-D", data, *options], folder / "postgres.log", cwd=data):
        _wait("PostgreSQL", lambda: _takes_connections(data), folder / "postgres.log")
        _create_database(port)
        yield f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{port}/mlflow"


def _create_database(port: int) -> None:
    import psycopg2

    login = f"host=127.0.0.1 port={port} user=mlflow password={PASSWORD} dbname=postgres"
    connection = psycopg2.connect(login)
    connection.autocommit = True
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE mlflow")


def _as_postgres(data: Path, secret: Path) -> list[str]:
    """What runs a command as another user than root, who may enter `data`."""
    if os.getuid() != 0:
        return []
    if shutil.which("runuser") is None or subprocess.run(["id", "postgres"], capture_output=True).returncode:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    for path in (data, secret):
        shutil.chown(path, "postgres")
    for above in data.parents:  # pytest's temporary folders are closed to others
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o001)
    return ["runuser", "-u", "postgres", "--"]


@contextmanager
def s3_store() -> Iterator[str]:
    """An S3 store in this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def _mlflow(folder: Path, database: str, s3: str) -> Iterator[str]:
    port, log = free_port(), folder / "mlflow.log"
    here = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_", "LEA_"))}
    environment = {
        **here,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), here["PATH"]]),
        "BACKEND_URI": database,
        "ARTIFACTS_BUCKET": BUCKET,
        "BUCKETS": BUCKET,
        "LISTEN_PORT": str(port),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD,
        "MLFLOW_S3_ENDPOINT_URL": s3,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "AWS_ACCESS_KEY_ID": KEYS[0],
        "AWS_SECRET_ACCESS_KEY": KEYS[1],
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    command = ["bash", SCRIPT]
    with _running(command, log, env=environment, cwd=folder):
        url = f"http://127.0.0.1:{port}"
        _wait("the MLflow server", lambda: _answers(f"{url}/health"), log)
        yield url


@contextmanager
def _running(command: Sequence[object], log: Path, cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[None]:
    """A process in a session of its own, ended with all of its children."""
    words = [str(word) for word in command]
    with log.open("w") as stream:
        process = subprocess.Popen(
            words, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, cwd=cwd, env=env
        )
        try:
            yield
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(20)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _wait(what: str, ready: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.3)


def _takes_connections(data: Path) -> bool:
    """The last line of a PostgreSQL server's file of its own says its state."""
    state = data / "postmaster.pid"
    return state.is_file() and state.read_text().rstrip().endswith("ready")


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
