"""`lea fetch` as a user meets it, against a server on loopback."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.fetching import catalogue
from pipelines.cli import parser
from tests.fetching.server import FileServer, serving


@pytest.fixture
def server() -> Any:
    with serving() as started:
        yield started


@pytest.fixture
def workspace(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository, and a catalogue of one name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEA_HOME", raising=False)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    server.files["/a.json"] = b"[1, 2]"
    table = tmp_path / "table.yaml"
    table.write_text(
        "mine: {about: two numbers, licence: CC0, from: here, folder: data/raw/mine, "
        f"by_hand: and the third is on request, files: [{{path: a.json, url: '{server.url}/a.json'}}]}}"
    )
    whole = catalogue.load
    monkeypatch.setattr(catalogue, "load", lambda: whole(table))
    return tmp_path


def fetch(*words: str) -> None:
    from pipelines.verbs import fetch as verb

    verb.run(parser().parse_args(["fetch", *words]))


def test_a_name_is_fetched_and_tracked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch("mine", "--yes", "--json")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == [{"name": "mine", "folder": "data/raw/mine", "files": ["data/raw/mine/a.json"]}]
    before = printed.err[: printed.err.index("/a.json")]
    assert "mine: two numbers" in before
    assert "1 files to fetch (0.00 GB and what the server does not say before)" in before
    assert "licence: CC0" in before
    assert (workspace / "data/raw/mine.dvc").is_file()
    assert (workspace / "data/raw/mine/a.json").read_bytes() == b"[1, 2]"
    fetch("mine")  # nothing is missing: nobody is asked
    assert "and the third is on request" in capsys.readouterr().out


def test_consent_is_asked_for(
    workspace: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(UserError, match="add --yes"):
        fetch("mine")
    terminal = io.StringIO("no\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(UserError, match="nothing was fetched"):
        fetch("mine")
    assert "Fetch them? [y/N]" in capsys.readouterr().err
    assert server.seen == []


def test_what_dvc_refuses_is_one_line(workspace: Path) -> None:
    (workspace / ".dvc/config").write_text("[core\n")
    with pytest.raises(UserError, match="dvc add -q data/raw/mine: ") as caught:
        fetch("mine", "--yes")
    assert "\n" not in str(caught.value)


def test_names_are_listed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch()
    assert "two numbers" in capsys.readouterr().out
    fetch("--json")
    assert json.loads(capsys.readouterr().out)["mine"]["licence"] == "CC0"


def test_elsewhere_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is no DVC repository"):
        fetch("coco", "--yes")
    with pytest.raises(UserError, match="--hours must be a number of at least 0, got -1"):
        fetch("--hours", "-1")


def test_the_list_is_a_block_for_each_name(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch()
    printed = capsys.readouterr().out
    assert printed.startswith("mine\n  two numbers\n  licence: CC0\n  into: data/raw/mine\n\n")
    assert printed.endswith("as in: lea fetch scienceqa\n")
