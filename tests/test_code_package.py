"""What goes to the nodes of a cluster: our code, and nothing else that lies in the workspace."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from components import code_package
from components.code_package import pack, package_files

ROOT = Path(__file__).parent.parent
PRIVATE = (".env", ".dvc/config.local", "components/.env", "components/key.pem", "data/raw/mine/photo.jpg")
OUTPUTS = ("data/prepared/mine/shard.parquet", "models/base/base.json", "evaluation/metrics.json", ".lea/mlflow.db")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """The repository's code, with a user's secrets, data and outputs in it."""
    root = tmp_path / "workspace"
    for name in ("components", "pipelines", ".dvc"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "cache", "tmp"))
    for name in (".rayignore", ".gitignore", "params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root / name)
    for name in (*PRIVATE, *OUTPUTS, "data/raw/mine.dvc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("private")
    return root


def test_the_package_holds_the_code_alone(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_package, "TOP", workspace)
    tops, size = pack(tmp_path / "out")
    assert [top.name for top in tops] == ["components", "pipelines"]
    packed = [path for path in tops[0].parent.rglob("*") if path.is_file()]
    assert size == sum(path.stat().st_size for path in packed) < 5e6
    assert {path.suffix for path in packed} <= set(code_package.ENDINGS)
    assert all(path.read_bytes() != b"private" for path in packed)
    assert (tops[1] / "profiles").is_dir()


def test_its_name_is_that_of_what_it_holds(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_package, "TOP", workspace)
    first, again = pack(tmp_path / "out")[0][0].parent, pack(tmp_path / "other")[0][0].parent
    assert first.name == again.name
    (workspace / "components" / "errors.py").write_text("# changed")
    assert pack(tmp_path / "out")[0][0].parent.name != first.name


def test_every_module_that_runs_is_in_it() -> None:
    from components.imports import closure

    assert {path.as_posix() for path in closure("components.training.loop", "pipelines.tune")} <= set(package_files())


def test_a_job_that_is_submitted_takes_no_secret_data_or_output_along(workspace: Path, tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    target = tmp_path / "job.zip"
    create_package(str(workspace), target, include_gitignore=True)
    names = set(zipfile.ZipFile(target).namelist())
    assert {"dvc.yaml", "params.yaml", ".dvc/config", "data/raw/mine.dvc", "components/errors.py"} <= names
    assert not names & {*PRIVATE, *OUTPUTS}
