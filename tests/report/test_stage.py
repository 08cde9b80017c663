from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from components.errors import UserError
from components.params import Params
from pipelines import report


def test_stage_replaces_the_report_and_names_it(
    run: Path, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    (run / "report").mkdir()
    (run / "report/old.txt").write_text("old")
    report.run(params)
    assert sorted(path.name for path in (run / "report").iterdir()) == ["hub", "images", "report.html", "report.md"]
    assert capsys.readouterr().out == "report: report/report.html, report/report.md\n"


def test_stage_writes_the_same_bytes_again(run: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    report.run(params)
    first = (run / "report/report.html").read_bytes()
    report.run(params)
    assert (run / "report/report.html").read_bytes() == first


def test_stage_that_fails_leaves_the_old_report(run: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    report.run(params)
    (run / "evaluation/insight/entropy.csv").write_text("layer\n0\n")
    with pytest.raises(UserError, match="entropy"):
        report.run(params)
    assert (run / "report/report.html").is_file()


STAGES = """stages:
  report: {cmd: "true", deps: [evaluation/metrics.json, evaluation/insight, pipelines/report.py], outs: [report]}
"""
LOCK = """schema: '2.0'
stages:
  report:
    cmd: "true"
    deps:
    - {path: evaluation/insight, hash: md5, md5: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.dir, size: 1, nfiles: 1}
    - {path: evaluation/metrics.json, hash: md5, md5: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, size: 1}
    - {path: pipelines/report.py, hash: md5, md5: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, size: 1}
"""


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("evaluation/metrics.json", '{"finetune": {"ingredients": {"iou": "x"}}}'),
        ("evaluation/insight/samples.json", '[["x"]]'),
        ("evaluation/insight/skill_space.csv", "layer,share\n1\n"),
    ],
)
def test_a_file_in_another_form_is_named_where_dvc_knows_that_it_was_changed(
    file: str, content: str, run: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    (run / file).write_text(content)
    with pytest.raises((AttributeError, LookupError, TypeError, ValueError)):
        report.run(params)  # without DVC's word it may be a fault of ours
    (run / "dvc.yaml").write_text(STAGES)
    (run / "dvc.lock").write_text(LOCK)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=run, check=True)
    with pytest.raises(UserError, match=r"evaluation/metrics\.json: changed since .*; run: dvc repro report") as caught:
        report.run(params)
    assert "pipelines" not in str(caught.value)


def test_commit_says_whether_files_differ_from_it(tmp_path: Path) -> None:
    assert report.commit(tmp_path) == ""
    for command in ("init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m one"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    clean = report.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "file").write_text("a")
    subprocess.run(["git", "add", "file"], cwd=tmp_path, check=True)
    assert report.commit(tmp_path) == f"{clean} with changes that are not committed"
