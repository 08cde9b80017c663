"""infra/compose/mlflow.sh: a real MLflow server with passwords, on PostgreSQL and a stand-in for S3, on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

pytestmark = pytest.mark.service

SCRIPT = Path(__file__).parents[2] / "infra/compose/mlflow.sh"
PASSWORD = "correct-horse-battery"
CLIENT = """
import mlflow, pathlib, sys
mlflow.set_experiment("lea")
with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.5)
    mlflow.log_text("hello", "note.txt")
print(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/note.txt"), mlflow.get_run(run.info.run_id).data.metrics)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of its own, run by the user postgres where we are root: it refuses to be root's."""
    tools = [shutil.which("initdb") or "", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    initdb = next((tool for tool in tools if tool), None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path("/tmp") / f"lea-postgres-{os.getpid()}"
    folder.mkdir(mode=0o700)
    if user:
        shutil.chown(folder, user)
    run = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([initdb, "-D", folder / "data", "-A", "trust", "-U", "mlflow", "--no-sync"], check=True, **run)
    port = free_port()
    options = ["-D", folder / "data", "-k", folder, "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-F"]
    server = subprocess.Popen([str(Path(initdb).with_name("postgres")), *options], **run)
    try:
        _wait(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), server)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def store() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=free_port(), verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server._port}"
    server.stop()


def _wait(attempt, process: subprocess.Popen) -> None:
    until = time.monotonic() + 90
    while True:
        try:
            attempt()
            return
        except (OSError, requests.RequestException):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.3)


@pytest.fixture
def server(database: str, store: str, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BACKEND_URI": database,
        "ARTIFACTS_BUCKET": "mlflow",
        "BUCKETS": "mlflow lea-dvc",
        "LISTEN_PORT": str(port),
        "WORKERS": "1",
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for-a-test",
        "MLFLOW_S3_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "TMPDIR": str(tmp_path),
    }
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["bash", str(SCRIPT)], env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: requests.get(f"{url}/health", timeout=2).raise_for_status(), process)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def client(url: str, folder: Path, password: str | None) -> subprocess.CompletedProcess[str]:
    """A team member's process: an address and a password, no key of the store."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    said = {} if password is None else {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": password}
    environment = {**kept, "MLFLOW_TRACKING_URI": url, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", **said}
    return subprocess.run(
        [sys.executable, "-c", CLIENT], env=environment, cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_runs_and_artifacts_go_in_with_the_password_alone(server: str, store: str, tmp_path: Path) -> None:
    import boto3

    assert requests.get(f"{server}/api/2.0/mlflow/experiments/search?max_results=1", timeout=10).status_code == 401
    for wrong in (None, "guess"):
        assert client(server, tmp_path, wrong).returncode != 0
    done = client(server, tmp_path, PASSWORD)
    assert done.returncode == 0, done.stderr
    assert "hello {'loss': 0.5}" in done.stdout
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    s3 = boto3.client("s3", endpoint_url=store, **keys)
    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"mlflow", "lea-dvc"}
    (stored,) = s3.list_objects_v2(Bucket="mlflow")["Contents"]
    assert stored["Key"].endswith("/artifacts/note.txt")
    assert PASSWORD not in (tmp_path / "log").read_text()
