"""Secrets in the environment, on the ways that commands end in an error: nowhere printed, nowhere written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines import cli, stage

ROOT = Path(__file__).parents[2]
SECRET = "mArked-s3cret"
URIS = [
    f"http://ada:{SECRET}@127.0.0.1:1",
    f"http://{SECRET}@127.0.0.1:1/path",
    f"nosuch://ada:{SECRET}@host",
    f"postgresql://ada:{SECRET}@127.0.0.1:1/mlflow",
    f"http://ada:{SECRET}@[::1",
]
COMMANDS = [
    ["history"],
    ["promote", "1"],
    ["rollback", "--reason", "x"],
    ["predict", "--model", "models:/lea@champion", "--image", "image.png", "--prompt", "What is this?"],
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    settings = {
        "LEA_HOME": str(tmp_path / "home"),
        "OPENAI_BASE_URL": f"http://ada:{SECRET}@127.0.0.1:1/v1",
        "OPENAI_API_KEY": f"sk-{SECRET}\nX-Other: {SECRET}",
        "AWS_ACCESS_KEY_ID": f"AKIA{SECRET}",
        "AWS_SECRET_ACCESS_KEY": f"{SECRET}/+",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"no image")
    return tmp_path


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_tracking_uri_s_password_is_neither_printed_nor_written(
    words: list[str], uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    arguments = cli.parser().parse_args(words)
    assert stage.guarded(lambda: cli.VERBS[arguments.verb].run(arguments)) == stage.MISTAKE
    printed = "".join(capfd.readouterr())
    assert printed.count("\n") == 1, printed
    assert SECRET not in printed
    for path in folder.rglob("*"):
        assert SECRET not in str(path)
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
