from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from components.errors import UserError
from pipelines import stage


def raising(error: BaseException) -> object:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("params.yaml: x must be y"), 2, "error: params.yaml: x must be y\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "no space", "/data/x"), 2, "error: /data/x: no space left on device"),
        (OSError(errno.EADDRINUSE, "in use"), 2, "address already in use"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.guarded(raising(error)) == code  # pyright: ignore
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        stage.guarded(lambda: 1 / 0)


def test_an_error_line_shows_no_password(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-quite-secret")

    def work() -> None:
        raise UserError("s3://me:very-secret@bucket/x: refused (key sk-quite-secret)")

    assert stage.guarded(work) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: s3://***@bucket/x: refused")
    assert "secret" not in printed


def test_missing_package_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ModuleNotFoundError("No module named 'ray'", name="ray.train")

    assert stage.guarded(work) == 2
    assert (
        capsys.readouterr().err == "error: ray is not installed; run: pip install 'local-enhanced-adapters[pipeline]'\n"
    )


def test_missing_module_of_ours_is_no_mistake_of_the_user() -> None:
    def work() -> None:
        raise ModuleNotFoundError("No module named 'components.nothing'", name="components.nothing")

    with pytest.raises(ModuleNotFoundError):
        stage.guarded(work)


@pytest.mark.parametrize(("verbose", "level"), [("", "40"), ("1", "30")])
def test_the_hubs_retries_are_silent_unless_asked_for(verbose: str, level: str) -> None:
    code = (
        "from pipelines.stage import quiet; quiet(); from huggingface_hub.utils import logging; "
        "print(logging.get_verbosity())"
    )
    variables = {name: value for name, value in os.environ.items() if name != "HF_HUB_VERBOSITY"}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=variables | {"LEA_VERBOSE": verbose}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == level


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", b"\\xe9 \\u70b8"), ("latin-1", b"\xe9 \\u70b8")])
def test_a_terminal_that_knows_few_letters_ends_no_work(encoding: str, printed: bytes) -> None:
    code = "from pipelines import stage; raise SystemExit(stage.guarded(lambda: print('\\xe9 \\u70b8')))"
    for errors in ("strict", "surrogateescape"):
        environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:{errors}"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (0, printed, b"")
