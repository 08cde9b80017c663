"""The local database is whole or absent."""

from pathlib import Path

import mlflow
import pytest

from components.errors import UserError
from components.tracking import store


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


def test_a_tag_that_another_process_has_just_inserted_is_set_all_the_same():
    from mlflow.exceptions import MlflowException

    tries = []

    def write():
        tries.append(1)
        if len(tries) == 1:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: model_version_tags.key")

    store.insert(write)
    assert len(tries) == 2
    with pytest.raises(MlflowException, match="other"):
        store.insert(lambda: (_ for _ in ()).throw(MlflowException("other")))
