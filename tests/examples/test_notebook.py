"""examples/quickstart.ipynb, run by Jupyter's own client on a few drawn dishes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.workspace import small_params
from tools.markdown import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def test_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("components", "pipelines", "tables", "benchmarks/results"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    small_params(
        tmp_path,
        base__tiny__vision__images=64,
        base__tiny__vision__epochs=1,
        base__tiny__language__texts=64,
        pretrain__epochs=1,
    )
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LEA_HOME", str(tmp_path / ".lea"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "report" / "report.html").is_file()
    said = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in said if output.output_type == "error"] == []
    assert any("image/png" in output.get("data", {}) for output in said)
