"""Fixtures of the data tests; raw.py beside this file draws the data."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def lea_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
