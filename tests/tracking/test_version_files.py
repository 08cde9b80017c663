"""Versions whose files were lost or changed in a store that is not a folder of this machine."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from components.errors import UserError
from components.serving import loading
from components.tracking import store, version_files
from pipelines import register


@pytest.fixture
def held(workspace, monkeypatch) -> Path:
    """The folder of version 1, which is read and written as another store's."""
    register.run(workspace.params)
    monkeypatch.setattr(version_files, "_local", lambda place: None)
    [file] = (workspace.root / "home/mlflow/artifacts").rglob("MLmodel")
    return file.parent


def load() -> None:
    with loading.artifacts(store.connect().get_model_version("lea", "1")):
        pass


def change(file: Path, content: str) -> None:
    file.unlink()  # it may be a hard link
    file.write_text(content)


@pytest.mark.parametrize("lost", ["MLmodel", "artifacts/serving.json"])
def test_file_that_is_gone_from_another_store_is_put_back(workspace, held, capsys, lost):
    (held / lost).unlink()
    register.run(workspace.params)
    assert "version 1 were missing or changed; they are put back" in capsys.readouterr().out
    load()
    register.run(workspace.params)
    assert "put back" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["parts/connector.safetensors", "serving.json"])
def test_file_that_loading_found_changed_in_another_store_is_put_back(workspace, held, capsys, name):
    file = held / "artifacts" / name
    whole = file.read_text()
    change(file, "?" * len(whole))  # a listing shows no difference
    with pytest.raises(UserError, match=r"lea version 1 are missing or damaged .*; run where .*: dvc repro register$"):
        load()
    register.run(workspace.params)
    assert "version 1 were missing or changed; they are put back" in capsys.readouterr().out
    load()
    assert version_files.DAMAGED_TAG not in store.connect().get_model_version("lea", "1").tags
    register.run(workspace.params)
    assert "put back" not in capsys.readouterr().out


def test_who_may_not_write_hears_who_must_load_a_damaged_version(workspace, held, monkeypatch, capsys):
    change(held / "artifacts/parts/connector.safetensors", "?")

    def refused(*_, **__):
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    monkeypatch.setattr(MlflowClient, "set_model_version_tag", refused)
    with pytest.raises(UserError, match="missing or damaged"):
        load()
    assert "cannot be marked for dvc repro register (" in capsys.readouterr().err
