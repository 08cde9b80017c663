"""The local database is whole or absent."""

from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2

from components.errors import UserError
from components.serving import loading
from components.tracking import artifact_place, promotion, store


def test_a_database_that_could_not_be_made_whole_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, "search_experiments", full)
        with pytest.raises(UserError, match="No space left on device"):
            store.connect()
    folder = tmp_path / "mlflow"
    assert not (folder / "mlflow.db").exists()
    (half,) = folder.glob(".mlflow.db.*")
    half.write_bytes(half.read_bytes()[:5000])  # as a kill may leave it
    assert store.connect().get_experiment_by_name(store.EXPERIMENT) is not None
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["mlflow.db"]


def test_a_host_that_nobody_knows_is_said_in_words() -> None:
    error = OSError("HTTPConnectionPool(host='x'): Failed to resolve 'x' ([Errno -2] Name or service not known)")
    assert store.first_line(error) == "no machine of this name is known here"


def test_a_tag_that_another_process_has_just_inserted_is_set_all_the_same():
    tries = []

    def write():
        tries.append(1)
        if len(tries) == 1:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: model_version_tags.key")

    store.insert(write)
    assert len(tries) == 2
    with pytest.raises(MlflowException, match="other"):
        store.insert(lambda: (_ for _ in ()).throw(MlflowException("other")))


@pytest.mark.parametrize("place", ["/of/another/machine", "file:///of/another/machine"])
def test_shared_store_with_files_on_another_machines_disk_is_refused(place):
    artifact_place.check("sqlite:////tmp/own.db", place, "lea")
    artifact_place.check("http://127.0.0.1:5000", "mlflow-artifacts:/1", "lea")
    for uri in ("http://127.0.0.1:5000", "postgresql://127.0.0.1/mlflow"):
        with pytest.raises(UserError, match="in /of/another/machine, which is not on this machine"):
            artifact_place.check(uri, place, "lea")


def test_database_without_a_server_keeps_no_files_on_this_disk(tmp_path):
    assert artifact_place.of_new("http://127.0.0.1:5000", tmp_path, "lea") is None
    assert artifact_place.of_new("sqlite:////nfs/mlflow.db", tmp_path, "lea") == tmp_path.as_uri()
    with pytest.raises(UserError, match="is a database and holds no files") as refused:
        artifact_place.of_new("mysql+pymysql://ada:secret-word@db/mlflow", tmp_path, "lea")
    assert "secret-word" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (databricks_pb2.UNAUTHENTICATED, "does not know user ada with this password; set MLFLOW_TRACKING_USERNAME"),
        (databricks_pb2.PERMISSION_DENIED, "its administrator must let ada edit experiment lea and the registered"),
    ],
)
def test_refusals_of_a_server_say_what_to_do(monkeypatch, code, line):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    with pytest.raises(UserError, match=line), store.answering(store.tracking_uri()):
        raise MlflowException("API request failed", code)


def test_reading_makes_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "home"))
    for read in (lambda: loading.find_version("models:/lea@champion"), lambda: promotion.rollback("lea", "tried")):
        with pytest.raises(UserError, match=r"nothing is registered yet: .*mlflow\.db is missing; run: dvc repro"):
            read()
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_is_a_file_is_refused_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "home"))
    with pytest.raises(UserError, match="must be a folder"):
        loading.find_version("models:/lea@champion")
