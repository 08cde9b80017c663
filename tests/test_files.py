from __future__ import annotations

from pathlib import Path

import pytest

from components.digests import folder_digest
from components.files import fresh_folder, write_json, write_text
from components.workspace import home


def test_folder_appears_whole_and_replaces_the_old(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old", encoding="utf-8")
    with fresh_folder(target) as aside:
        (aside / "new").write_text("new", encoding="utf-8")
        assert (target / "old").exists()
    assert [path.name for path in target.iterdir()] == ["new"]


def test_folder_stays_as_it_was_when_the_work_fails(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old", encoding="utf-8")

    def half_the_work() -> None:
        with fresh_folder(target) as aside:
            (aside / "half").write_text("half", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_the_work()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in target.iterdir()] == ["old"]


def test_text_is_replaced_in_one_move(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.json"
    write_json(target, {"a": "é"})
    write_text(target, "x")
    assert target.read_text(encoding="utf-8") == "x"
    assert len(list(target.parent.iterdir())) == 1


def test_digest_changes_with_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1", encoding="utf-8")
    first = folder_digest(tmp_path)
    (tmp_path / "a").write_text("2", encoding="utf-8")
    second = folder_digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, folder_digest(tmp_path)}) == 3


def test_home_is_the_true_repository_in_a_queued_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LEA_HOME")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert home() == tmp_path / ".lea"
