"""Files and variables that a user can write, damaged in every way: one line, exit code 2, never a traceback."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.params import load_params
from pipelines import cli, stage
from pipelines.names import check_names

ROOT = Path(__file__).parents[2]
DEEP = 3_000


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


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_of_prepared_data(damage: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from components.batching.sampler import split_places
    from components.data.shards import PreparedRows

    for file, read in {
        "data/prepared/mine/manifest.json": lambda path: PreparedRows(path.parent),
        "data/splits/assignments.parquet": lambda path: split_places(path, "mine", "train"),
    }.items():
        path = workspace / file
        path.parent.mkdir(parents=True)
        DAMAGE[damage](path)
        assert file in one_line(lambda read=read, path=path: read(path), capsys)


@pytest.mark.parametrize("damage", set(DAMAGE) - {"folder"})
def test_damaged_memories_are_made_again_and_damaged_inputs_of_the_report_named(
    damage: str, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.costs.samples import _read_json
    from components.model.local_files import _seen
    from components.report.inputs import _json
    from components.tables.trials import _known_seconds

    monkeypatch.setenv("LEA_HOME", str(workspace / "home"))
    path = workspace / "home" / "base-files.json"
    path.parent.mkdir()
    DAMAGE[damage](path)
    assert (_seen(), _known_seconds(path)) == ({}, {})
    _read_json(path)
    if damage not in ("null", "list", "text", "number"):
        assert "base-files.json" in one_line(lambda: _json(path), capsys)


@pytest.mark.parametrize("summary", ['{"unifood": 3}', '{"unifood": [1]}', '{"unifood": {"test": 3.5}}'])
def test_summary_of_the_splits_in_another_form(
    summary: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.names import check_tasks

    (workspace / "data/splits").mkdir(parents=True)
    (workspace / "data/splits/summary.json").write_text(summary)
    assert "summary.json: unifood is not as it is written" in one_line(lambda: check_tasks(load_params()), capsys)


@pytest.mark.parametrize("settings", ["{}", '{"base": {}, "adapter": null}', '{"base": {"digest": "x"}, "adapter": 3}'])
def test_settings_of_a_model_in_another_form(
    settings: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from components.model.stored import read_settings

    (workspace / "model.json").write_text(settings)
    assert "model.json" in one_line(lambda: read_settings(workspace), capsys)


@pytest.mark.parametrize("depth", [500, 1000, 100_000])
@pytest.mark.parametrize(
    "text",
    [
        '[{"id": "1", "extra": DEEP, "conversations": TALK}]',
        '[{"id": DEEP, "conversations": TALK}]',
        '[{"id": "1", "conversations": DEEP}]',
        '{"id": "1", "extra": DEEP, "conversations": TALK}\n{"id": "2", "conversations": TALK}\n',
    ],
)
def test_deep_json_inside_sound_records(
    depth: int, text: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read where the interpreter's own limit allows it, else one line."""
    talk = '[{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "Soup."}]'
    path = workspace / "mine.json"
    path.write_text(text.replace("TALK", talk).replace("DEEP", "[" * depth + "]" * depth))
    capsys.readouterr()
    code = stage.guarded(lea("check", "mine.json", "--images", "."))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert (code, len(said)) in ((0, 0), (stage.MISTAKE, 1))


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
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
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


MOUNTED = """
from pathlib import Path
from components.files import fresh_folder
from pipelines import stage
def work():
    with fresh_folder(Path("models/finetune")) as folder:
        (folder / "model.json").write_text("{}")
raise SystemExit(stage.guarded(work))
"""


def test_output_that_is_a_mount_point_is_one_line_and_keeps_what_it_holds(workspace: Path) -> None:
    output = workspace / "models" / "finetune"
    output.mkdir(parents=True)
    own_mounts = ["unshare", "--user", "--mount", "--map-root-user", "sh", "-c"]
    mount = "mount -t tmpfs none models/finetune && touch models/finetune/kept"
    script = f"{mount} && {{}}; code=$?; ls models/finetune; exit $code"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*own_mounts, script.format("true")], cwd=workspace).returncode
    ):
        pytest.skip("no file system can be mounted here")
    run = script.format(f"{sys.executable} -c '{MOUNTED.replace(chr(39), chr(34))}'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*own_mounts, run], cwd=workspace, env=environment, capture_output=True, text=True)
    assert done.returncode == stage.MISTAKE
    assert done.stderr.count("\n") == 1
    assert "models/finetune: device or resource busy" in done.stderr
    assert done.stdout.split() == ["kept"]
    assert [path.name for path in output.parent.iterdir()] == ["finetune"]
