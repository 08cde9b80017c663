"""A workspace that was moved or copied, and versions whose files are gone: `register` mends them, in its own home."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from components.digests import folder_digest
from components.errors import UserError
from components.files import write_json
from components.tracking import bases, store, version_files
from pipelines import register


def champion_connector() -> str:
    client = store.connect()
    with version_files.opened(client.get_model_version_by_alias("lea", "champion")) as (parts, _):
        return (parts / "connector.safetensors").read_text()


def enter(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_HOME", str(root / "home"))
    monkeypatch.chdir(root)


@pytest.mark.parametrize("name", ["after", "with blank and 100%"])
def test_moved_workspace_works(workspace, monkeypatch, tmp_path_factory, name):
    register.run(workspace.params)
    moved = tmp_path_factory.mktemp("elsewhere") / name
    shutil.copytree(workspace.root, moved)
    shutil.rmtree(workspace.root / "home")
    enter(moved, monkeypatch)
    assert champion_connector() == "connector a"
    register.run(workspace.params)
    assert champion_connector() == "connector a"
    assert not (workspace.root / "home").exists()


def test_copy_leaves_the_home_of_the_original_alone(workspace, monkeypatch, tmp_path_factory):
    register.run(workspace.params)
    original = workspace.root / "home"
    before = folder_digest(original)
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    shutil.copytree(workspace.root, copy)
    enter(copy, monkeypatch)
    workspace.root = copy
    workspace.train("b")
    workspace.measure(0.82)
    register.run(workspace.params)
    assert champion_connector() == "connector b"
    assert folder_digest(original) == before


@pytest.mark.parametrize("damage", ["all files", "the connector", "the base's copy"])
def test_files_that_are_gone_or_changed_are_put_back(workspace, capsys, damage):
    register.run(workspace.params)
    artifacts = workspace.root / "home/mlflow/artifacts"
    if damage == "all files":
        shutil.rmtree(artifacts)
    elif damage == "the connector":
        [held] = artifacts.rglob("artifacts/parts/connector.safetensors")
        held.unlink()
        held.write_text("zeros")
    else:
        shutil.rmtree(workspace.root / "home/bases")
    capsys.readouterr()
    register.run(workspace.params)
    printed = capsys.readouterr().out
    assert ("version 1 were missing or changed; they are put back" in printed) == (damage != "the base's copy")
    assert champion_connector() == "connector a"
    assert (workspace.root / "home/bases").is_dir()
    register.run(workspace.params)
    assert "put back" not in capsys.readouterr().out


def test_files_that_cannot_be_put_back_stay_as_they_are(workspace, monkeypatch):
    """Another home may be reading them."""
    register.run(workspace.params)
    [held] = (workspace.root / "home/mlflow/artifacts").rglob("artifacts/parts/connector.safetensors")
    held.unlink()
    held.write_text("zeros")
    link_tree = bases.link_tree

    def full(source, target):
        if target.suffix == ".partial":
            raise OSError(errno.ENOSPC, "No space left on device")
        link_tree(source, target)

    monkeypatch.setattr(bases, "link_tree", full)
    monkeypatch.setattr(LocalArtifactRepository, "log_artifacts", lambda *_: full(None, Path("x.partial")))
    with pytest.raises(UserError, match="No space left"):
        register.run(workspace.params)
    assert held.read_text() == "zeros"


def test_base_that_another_home_keeps_elsewhere_is_no_damage(workspace, capsys):
    register.run(workspace.params)
    [held] = (workspace.root / "home/mlflow/artifacts").rglob("artifacts/serving.json")
    stated = json.loads(held.read_text())
    held.unlink()
    write_json(held, {**stated, "copies": ["/a/folder/of/another/home"]})
    register.run(workspace.params)
    assert "put back" not in capsys.readouterr().out
    assert champion_connector() == "connector a"
