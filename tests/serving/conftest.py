"""The miniature repository of the registry's tests, and one whose registry holds two models that answer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from components.params import validate_params
from pipelines import register
from tests.serving.tiny_model import build_tiny_model, make_champion, train_tiny_model
from tests.tracking.conftest import ROOT, Workspace, empty_database, workspace

__all__ = ["empty_database", "workspace"]


@pytest.fixture(scope="session")
def registered(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Versions 1 (champion) and 2 of `lea`, made once for all tests."""
    root = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_ROOT", "LEA_BASE"):
            patch.delenv(name, raising=False)
        patch.setenv("LEA_HOME", str(root / "home"))
        patch.chdir(root)
        (root / "home/mlflow").mkdir(parents=True)
        shutil.copy(empty_database, root / "home/mlflow/mlflow.db")
        tree = yaml.safe_load((ROOT / "params.yaml").read_text())
        tree["registry"] = {"name": "lea", "gate": {"at_least": {}, "at_most": {}, "not_worse": {}}}
        made = Workspace(root, validate_params(tree))
        made.base.mkdir(parents=True)
        made.parts.mkdir(parents=True)
        build_tiny_model(made)
        made.measure(0.8)
        register.run(made.params)
        train_tiny_model(made, seed=2)
        made.measure(0.8)
        register.run(made.params)
        make_champion(1)
    return made


@pytest.fixture
def champion(registered: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The same, with version 1 as the champion and this test's home folder there."""
    monkeypatch.setenv("LEA_HOME", str(registered.root / "home"))
    monkeypatch.chdir(registered.root)
    make_champion(1)
    return registered
