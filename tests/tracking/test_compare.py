"""`lea compare` on versions and runs of a real sqlite registry, and on revisions of a DVC repository."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.errors import UserError
from components.evaluation.compared import Difference
from components.evaluation.question import Question
from components.evaluation.results import Results, write_answers
from components.tracking import store
from pipelines import cli, register, stage
from pipelines.verbs.compare import table

ROOT = Path(__file__).parents[2]
QUESTIONS = [Question(str(n), "flickr30k", "caption", "?", ("a red dish",), source="mine") for n in range(12)]


def write(said: str) -> None:
    results = Results()
    results.add("finetune", QUESTIONS, [said if n % 3 else "a red boat" for n in range(12)])
    write_answers(Path("evaluation/answers.parquet"), results)


@pytest.fixture
def measured(workspace: Any) -> Any:
    """Two registered models, the second better."""
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    write("a boat")
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.81)
    write("a red dish")
    register.run(workspace.params)
    return workspace


def run_of(version: str) -> str:
    run_id = store.connect().get_model_version("lea", version).run_id
    assert run_id
    return run_id


def compare(*words: str) -> int:
    arguments = cli.parser().parse_args(["compare", *words])
    return stage.guarded(lambda: cli.VERBS["compare"].run(arguments))


def test_versions_and_runs_are_compared(measured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    by_version = ("models:/lea/1", "models:/lea@champion")
    by_run = ("finetune-a", run_of("2"))
    for first, second in (by_version, by_run, ("models:/lea/1", "workspace")):
        assert compare(first, second, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        (task,) = found["tasks"]
        assert (task["metric"], task["better"], task["questions"]) == ("caption.rouge_l", "second", 12)
        assert not found["same_model"]
        assert found["conditions_differ"] == []


def test_the_table_is_read_by_people(measured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert compare("models:/lea/1", "models:/lea/1") == 0
    same = capsys.readouterr().out
    assert same.startswith("both names are of one model\n")
    assert same.rstrip().endswith("equal")
    assert "undecided" not in same
    assert compare("finetune-b", "finetune-a") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "first: finetune-b    second: finetune-a"
    assert printed[-1].startswith("caption.rouge_l  ")
    assert printed[-1].endswith("12         first is better")
    measured.measure(0.8, tokens=9)
    assert compare("models:/lea/2", "workspace") == 0
    assert "not measured under the same conditions: evaluate.max_new_tokens (72 and 9)" in capsys.readouterr().out


def test_answers_are_kept_once_for_each_set_of_conditions(measured: Any) -> None:
    register.run(measured.params)
    measured.measure(0.7, questions="others")
    register.run(measured.params)
    client = store.connect()
    run_id = run_of("2")
    kept = [item.path for item in client.list_artifacts(run_id, "evaluation")]
    assert len(kept) == 2
    for folder in kept:
        names = {Path(item.path).name for item in client.list_artifacts(run_id, folder)}
        assert names == {"answers.parquet", "measured.json"}


def test_answers_that_were_kept_in_part_are_kept_whole_by_the_next_register(
    measured: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_part(client: MlflowClient, run_id: str, path: str, folder: str) -> None:
        if path.endswith("measured.json"):
            raise MlflowException("the connection was lost")
        log(client, run_id, path, folder)

    log = MlflowClient.log_artifact
    measured.train("c")
    measured.measure(0.82)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", in_part)
        with pytest.raises(UserError, match="the connection was lost"):
            register.run(measured.params)
    assert compare("models:/lea/3", "models:/lea/1") == 2
    assert "no answers are kept with its run; dvc repro register keeps them" in capsys.readouterr().err
    register.run(measured.params)
    assert compare("models:/lea/3", "models:/lea/1") == 0


def test_names_of_nothing_are_one_line(workspace: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    for name, complaint in (
        ("models:/lea/7", "no model 'lea' in the registry"),
        ("finetune-none", "the tracking store knows no run 'finetune-none'; give workspace, a version"),
        ("0" * 32, "the tracking store knows no run"),
        ("", "one of the two names is empty; give workspace, a version"),
    ):
        assert compare(name, "workspace") == 2
        complained = capsys.readouterr().err
        assert complaint in complained
        assert complained.count("\n") == 1


def test_revisions_are_read_from_the_cache(workspace: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def command(*words: str) -> None:
        subprocess.run(words, check=True, capture_output=True, timeout=120)

    files = ("evaluation/answers.parquet", "evaluation/measured.json")
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    command("git", "init", "-q")
    command("git", "config", "user.email", "a@b.c")
    command("git", "config", "user.name", "a")
    command(sys.executable, "-m", "dvc", "init", "-q")
    write("a boat")
    command(sys.executable, "-m", "dvc", "add", "-q", *files)
    command("git", "add", "evaluation")
    command("git", "commit", "-qm", "first")
    workspace.train("b")
    workspace.measure(0.81)
    write("a red dish")
    capsys.readouterr()
    assert compare("HEAD", "workspace", "--json") == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert task["better"] == "second"
    assert compare("nobody", "workspace") == 2
    assert "'nobody' is no revision or experiment here; give workspace, a version" in capsys.readouterr().err
    shutil.rmtree(".dvc/cache")
    assert compare("HEAD", "workspace") == 2
    assert "HEAD holds no dvc.lock, so it names no results; run: git add dvc.lock" in capsys.readouterr().err
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n", encoding="utf-8")
    command("git", "add", "dvc.lock")
    command("git", "commit", "-qm", "second")
    assert compare("HEAD", "workspace") == 2
    complained = capsys.readouterr().err
    assert "HEAD: DVC has no evaluation/answers.parquet of it in its cache; go to it (git checkout HEAD;" in complained


def test_shares_are_printed_in_per_cent() -> None:
    line = Difference("ingredients.iou", 0.5, 0.6, 0.1, 0.05, 0.15, 0.95, questions=12, left_out=0, better="second")
    printed = table(("a", "b"), [line], same=False)[-1]
    assert " ".join(printed.split()) == "ingredients.iou 50.00 60.00 +10.00 +5.00 to +15.00 12 second is better"
