"""What of a source DVC does not see."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.params import Source
from components.prepare.unseen import unseen_by_dvc


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A source's folder with files, links to files and folders, and a folder beside it."""
    root, beside = tmp_path / "mine", tmp_path / "photos"
    for folder in (root / "images", beside):
        folder.mkdir(parents=True)
        (folder / "1.jpg").write_bytes(b"")
    (root / "a.json").write_text("[]")
    (beside / "images.zip").write_bytes(b"")
    (root / "linked").symlink_to(beside)
    (root / "within").symlink_to(root / "images")
    (root / "images.zip").symlink_to(beside / "images.zip")
    return root


@pytest.mark.parametrize("images", ["images", ".", None, "images.zip", "within", {"a": "images", "b": "images.zip"}])
def test_what_lies_in_the_folder_is_seen(root: Path, images: str | dict[str, str] | None) -> None:
    spec = Source(kind="llava_json", path=str(root), annotations="a.json", images=images)
    assert unseen_by_dvc(spec) == []


@pytest.mark.parametrize(
    ("images", "unseen"),
    [
        ("../photos", "../photos"),
        ("linked", "linked"),
        ("linked/images.zip", "linked/images.zip"),
        ({"a": "images", "b": "../photos/images.zip"}, "../photos/images.zip"),
    ],
)
def test_what_lies_beside_it_or_behind_a_link_to_a_folder_is_not(
    root: Path, images: str | dict[str, str], unseen: str
) -> None:
    spec = Source(kind="llava_json", path=str(root), annotations="a.json", images=images)
    assert unseen_by_dvc(spec) == [root / unseen]
    assert unseen_by_dvc(spec.model_copy(update={"images": str(root.parent / "photos")})) == [root.parent / "photos"]


def test_a_linked_source_and_dvcs_cache_are_seen(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(root)
    spec = Source(kind="llava_json", path=str(tmp_path / "link"), annotations="a.json", images="images")
    assert unseen_by_dvc(spec) == []
    cache = tmp_path / ".dvc" / "cache" / "files"
    cache.mkdir(parents=True)
    (cache / "images.zip").write_bytes(b"")
    (root / "cached.zip").symlink_to(cache / "images.zip")
    monkeypatch.chdir(tmp_path)
    assert unseen_by_dvc(spec.model_copy(update={"images": "cached.zip"})) == []
