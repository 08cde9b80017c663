"""What many tests need: a tiny real model, a tiny real tokenizer, a folder of run state of their own."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run state and registry of a test lie apart from the user's."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LEA_HOME", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect() -> None:
    """What earlier tests left is not looked at again by each collection of garbage (preparing asks for one a chunk)."""
    gc.freeze()


@pytest.fixture
def params() -> Any:
    """The committed params.yaml."""
    from components.params import load_params

    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A byte-level BPE tokenizer with offsets, trained on a few sentences."""
    from tests.models import tiny_tokenizer

    return tiny_tokenizer()


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real files; the test is skipped where there is none."""
    folder = os.environ.get("LEA_REALDATA")
    if not folder:
        pytest.skip("LEA_REALDATA is not set: no real files to read")
    return Path(folder)
