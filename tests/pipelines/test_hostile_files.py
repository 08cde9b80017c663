"""Files and variables that a user can write, damaged in every way: one line, exit code 2, never a traceback."""

from __future__ import annotations

import errno
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.params import load_params
from pipelines import cli, stage
from pipelines.names import check_names

ROOT = Path(__file__).parents[2]
DEEP = 10_000


def a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "folder": a_folder,
    "empty": holding(b""),
    "null": holding(b"null"),
    "list": holding(b"[1, 2]\n"),
    "text": holding(b'"a text"'),
    "number": holding(b"7"),
    "latin-1": holding("name: \xe9t\xe9\n".encode("latin-1")),
    "utf-16": holding("seed: 17".encode("utf-16")),
    "zero bytes": holding(b"\0" * 100),
    "cut off": holding(b'{"a": [1, {"b": "c'),
    "deep list": holding(b"[" * DEEP + b"]" * DEEP),
    "deep map": holding(b'{"a": ' * DEEP + b"1" + b"}" * DEEP),
    "endless line": holding(b"a" * 200_000),
    "a tag": holding(b"a: !!python/object/apply:os.system [exit]\n"),
    "an anchor of itself": holding(b"&a {b: *a}\n"),
    "a date that is none": holding(b"a: 2026-99-99\n"),
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one_line(work: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    """The line that the work ends with. Any other exception than a user's mistake fails the test."""
    capsys.readouterr()
    code = stage.guarded(work)
    said = capsys.readouterr().err
    assert code == stage.MISTAKE, said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert len(said) < 1000
    return said


def lea(*words: str) -> Callable[[], object]:
    def work() -> None:
        arguments = cli.parser().parse_args(words)
        cli.VERBS[arguments.verb].run(arguments)

    return work


def load_and_check() -> None:
    check_names(load_params())


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_settings(damage: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DAMAGE[damage](workspace / "params.yaml")
    for work in (load_and_check, lea("profile", "photos"), lea("profile", "--check"), lea("check", "mine")):
        assert "params.yaml" in one_line(work, capsys)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    ("file", "reads"),
    [
        ("models/base/base.json", "stored.read_reference"),
        ("models/finetune/model.json", "stored.read_settings"),
        ("evaluation/metrics.json", "register"),
        ("data/splits/summary.json", "names.check_tasks"),
    ],
)
def test_damaged_files_of_ours(
    damage: str, file: str, reads: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from components.model import stored
    from pipelines import names, register

    path = workspace / file
    path.parent.mkdir(parents=True)
    DAMAGE[damage](path)
    work = {
        "stored.read_reference": lambda: stored.read_reference(path.parent),
        "stored.read_settings": lambda: stored.read_settings(path.parent),
        "register": lambda: register.run(load_params()),
        "names.check_tasks": lambda: names.check_tasks(load_params()),
    }[reads]
    assert file in one_line(work, capsys)


@pytest.mark.parametrize("line", [b"[", b"\xff", b'{"a": ' * DEEP])
def test_damaged_journals(line: bytes, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from components.evaluation.inference.journal import Journal
    from components.training.journal import read_journal

    path = workspace / "run" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"question": "q", "answer": "a"}\n' + line + b"\n")
    assert "metrics.jsonl is damaged" in one_line(lambda: read_journal(path), capsys)
    Journal(path, 8)  # of answers: what cannot be read is a question to ask again


@pytest.mark.parametrize("home", ["~nosuchuser/x", "/dev/null", "/proc/version/x"])
def test_home_that_is_no_folder(
    home: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from components.locks import lock

    monkeypatch.setenv("LEA_HOME", home)

    def work() -> None:
        with lock("x"):
            pass

    assert "LEA_HOME" in one_line(work, capsys)


@pytest.mark.parametrize("uri", ["http://[::1", "http://", "nosuch://x", "postgresql://a b"])
def test_tracking_uri_that_leads_nowhere(
    uri: str, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from components.tracking import store

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert "mlflow" in one_line(store.connect, capsys).lower()


@pytest.mark.parametrize("words", [["prepare", "a", "b"], ["splits", "a"]])
def test_words_too_many_for_a_stage(
    words: list[str], workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines import prepare, splits

    monkeypatch.setattr(sys, "argv", [f"{words[0]}.py", *words[1:]])
    with pytest.raises(SystemExit) as ended:
        stage.main({"prepare": prepare, "splits": splits}[words[0]].run)
    assert ended.value.code == stage.MISTAKE
    said = capsys.readouterr().err
    assert f"error: stage {words[0]} takes" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("std::bad_alloc"),
        OSError(errno.EFBIG, "too large", "model.bin"),
        OSError(errno.EBUSY, "busy", "data/prepared"),
        OSError(errno.EIO, "input/output error", "a\nb"),
        NotADirectoryError(errno.ENOTDIR, "no folder", "data"),
    ],
)
def test_what_a_machine_lacks(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise error

    one_line(work, capsys)


def mutated(text: bytes, draw: random.Random) -> bytes:
    """A settings file after a slip of the hand: bytes cut, doubled, replaced or put in."""
    content = bytearray(text)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(content))
        piece = bytes(draw.choices(b"{}[]:,-#&*!|>'\"%@` \n\t0a\xff\x00", k=draw.randint(1, 6)))
        length = draw.choice([0, 1, 2, 40])
        content[place : place + length] = draw.choice([piece, b"", bytes(content[place : place + length]) * 2])
    return bytes(content)


def fuzz(number: int, workspace: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """Load and re-profile mutated settings. How many were refused; the others are valid settings."""
    original, refused = (ROOT / "params.yaml").read_bytes(), 0
    for seed in range(number):
        (workspace / "params.yaml").write_bytes(mutated(original, random.Random(seed)))
        for work in (load_and_check, lea("profile", "photos")):
            code = stage.guarded(work)
            said = capsys.readouterr().err
            assert (code, said.count("\n")) in ((0, 0), (stage.MISTAKE, 1)), (seed, said)
            refused += code != 0
    return refused


def test_slips_of_the_hand_in_the_settings(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz(25, workspace, capsys) > 10


@pytest.mark.slow
def test_many_slips_of_the_hand_in_the_settings(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz(1500, workspace, capsys) > 500
