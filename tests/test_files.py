from __future__ import annotations

import errno
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from components.digests import folder_digest
from components.errors import UserError
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


WRITER = """
import os, signal, sys
from pathlib import Path
from components import files

def writes(version):
    with files.fresh_folder(Path("out")) as folder:
        for number in range(60):
            (folder / str(number)).write_text(version)
        (folder / "mark").write_text(version)

def dies(step):  # at the n-th move or removal
    def patched(function):
        def call(*arguments, **options):
            nonlocal step
            step -= 1
            if not step:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    Path.rename, os.unlink, os.rmdir = patched(Path.rename), patched(os.unlink), patched(os.rmdir)
"""


def started(folder: Path, script: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-S", "-c", WRITER + script, *map(str, arguments)]
    env = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE)


def found(folder: Path) -> str | None:
    """The version that `out` holds, None where it is absent; it must be whole."""
    if not (folder / "out").exists():
        return None
    texts = [path.read_text(encoding="utf-8") for path in (folder / "out").iterdir()]
    assert len(texts) == 61
    assert len(set(texts)) == 1
    return texts[0]


def test_folder_is_whole_or_absent_after_a_kill_at_any_time(tmp_path: Path) -> None:
    chance, seen = random.Random(0), set[str]()
    for _ in range(40):
        script = "for turn in range(10**9):\n    writes(sys.argv[1] + str(turn)); print(flush=True)"
        process = started(tmp_path, script, f"{uuid.uuid4()}-")
        assert process.stdout is not None
        process.stdout.readline()  # one version is whole, the next begins
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.wait()
        process.stdout.close()
        seen |= {version} if (version := found(tmp_path)) else set()
    assert len(seen) > 10
    with fresh_folder(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing is left of 40 killed processes


@pytest.mark.parametrize("removed", [False, True])  # by DVC, before it runs a stage again
@pytest.mark.parametrize(
    ("step", "version", "after_removal"),
    [(1, "old", None), (2, None, "old"), (3, "new", "old"), (4, "new", None), (30, "new", None), (64, "new", None)],
)
def test_folder_after_a_kill_at_each_step_of_its_replacement(
    tmp_path: Path, step: int, version: str | None, after_removal: str | None, removed: bool
) -> None:
    process = started(tmp_path, "writes('old'); dies(int(sys.argv[1])); writes('new')", step)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert found(tmp_path) == version
    if removed:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    with pytest.raises(RuntimeError), fresh_folder(tmp_path / "out"):
        raise RuntimeError
    assert found(tmp_path) == (after_removal if removed else version or "old")
    assert [path.name for path in tmp_path.iterdir()] == ["out"] * bool(found(tmp_path))


def test_link_to_a_folder_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a").write_text("a", encoding="utf-8")
    (tmp_path / "out").symlink_to(tmp_path / "far")
    for _ in range(2):
        with fresh_folder(tmp_path / "out") as aside:
            (aside / "new").write_text("new", encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far", "out"]
    assert (tmp_path / "far" / "a").exists()


def test_folder_that_cannot_be_moved_in_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, rename = tmp_path / "out", Path.rename
    target.mkdir()

    def refuse_the_new(path: Path, to: Path) -> Path:
        if path.name == ".out.partial":
            raise OSError(errno.ENOSPC, "full")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(OSError, match="full"), fresh_folder(target):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


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


def test_a_url_is_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_HOME", "s3://bucket/lea")
    with pytest.raises(UserError, match="LEA_HOME=s3://bucket/lea: is a URL, and must be a folder; LEA_STORAGE takes"):
        home()
