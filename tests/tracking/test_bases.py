"""A base that a version refers to, on a machine where it lies elsewhere or is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.errors import UserError
from components.files import write_json
from components.tracking import bases


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's own, in a workspace whose models/base is empty yet."""
    for name in ("LEA_BASE", "LEA_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "where it lies here"
    folder.mkdir()
    (folder / "model.safetensors").write_text("frozen weights")
    (tmp_path / "models/base").mkdir(parents=True)
    return folder


def reference(folder: Path, kind: str = "checkpoint", **changes: object) -> dict:
    stated = {"kind": kind, "id": folder.name, "revision": None, "digest": bases.base_digest(folder, kind)}
    return {**stated, **changes}


def test_checkpoint_is_found_where_this_workspace_refers_to_it(checkpoint):
    stated = reference(checkpoint, id="where it lay there")
    with pytest.raises(UserError, match="not on this machine"):
        bases.find(stated, ["/where/it/lay/there"])
    write_json(Path("models/base/base.json"), reference(checkpoint, id=str(checkpoint)))
    assert bases.find(stated, ["/where/it/lay/there"]) == checkpoint
    (checkpoint / "model.safetensors").write_text("other weights")
    with pytest.raises(UserError, match="not on this machine"):
        bases.find(stated, [])


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("tiny", "or make it under its params.yaml, package versions and kind of processor with: dvc repro base"),
        ("compose", "or make it under its params.yaml and package versions with: dvc repro base"),
        ("checkpoint", ""),
    ],
)
def test_base_that_is_absent_is_made_again_only_where_that_gives_the_same(checkpoint, kind, remedy):
    with pytest.raises(UserError) as missing:
        bases.find(reference(checkpoint, kind), [])
    said = str(missing.value)
    assert "set LEA_BASE to a copy of its folder, or LEA_STORAGE here and where it was registered" in said
    assert said.endswith(remedy or "it was registered")


def test_base_that_is_absent_is_described_by_where_it_lay(checkpoint):
    """The model itself states no folder."""
    with pytest.raises(UserError, match=r"base 'checkpoint' \(digest \w{12}, registered from /data/llava\) is not on"):
        bases.find(reference(checkpoint, "checkpoint", id="checkpoint") | {"digest": "0" * 64}, ["/data/llava"])


def test_lea_base_of_no_user_is_one_line(checkpoint, monkeypatch):
    monkeypatch.setenv("LEA_BASE", "~nosuchuser/base")
    with pytest.raises(UserError, match=r"LEA_BASE ~nosuchuser/base is no folder: could not determine home directory$"):
        bases.find(reference(checkpoint), [])


def test_lea_base_may_start_with_the_users_home(checkpoint, monkeypatch):
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    monkeypatch.setenv("LEA_BASE", f"~/{checkpoint.name}")
    assert bases.find(reference(checkpoint), []) == checkpoint


@pytest.mark.parametrize("kind", ["tiny", "checkpoint"])
def test_base_comes_from_the_storage_by_its_digest(checkpoint, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("LEA_STORAGE", f"file://{tmp_path / 'storage'}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stated = reference(checkpoint, kind, id=str(checkpoint))
    for _ in range(2):  # the second time it is there
        assert bases.keep(checkpoint, stated)
    shutil.rmtree(checkpoint)
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "home of another"))
    found = bases.find(stated, [])
    assert (found / "model.safetensors").read_text() == "frozen weights"
    shutil.rmtree(tmp_path / "cache")
    [file] = [one for one in (tmp_path / "storage/files").iterdir() if one.read_text() == "frozen weights"]
    file.write_text("other weights!")
    with pytest.raises(UserError, match="does not match its digest"):
        bases.find(stated, [])
