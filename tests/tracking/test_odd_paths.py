from __future__ import annotations

from pathlib import Path

import pytest

from components.tracking import store


@pytest.mark.parametrize("name", ["feature%2Fx", "what?x#y"])
def test_a_workspace_with_an_odd_name_keeps_its_database(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work" / name
    folder.mkdir(parents=True)
    monkeypatch.setenv("LEA_HOME", str(folder / ".lea"))
    store.connect()
    assert (folder / ".lea" / "mlflow" / "mlflow.db").is_file()
    assert [path.name for path in folder.parent.iterdir()] == [name]  # MLflow wrote beside it
