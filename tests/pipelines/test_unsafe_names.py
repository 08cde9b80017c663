"""Names in params.yaml that would be paths or shell commands: nothing runs, nothing is deleted, one line says why."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import UserError
from components.params import validate_params
from pipelines.stage import name_from_dvc

ROOT = Path(__file__).parent.parent.parent
TREE: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
UNSAFE = [
    "../../benchmarks",
    "x; touch F",
    "x$(touch F)",
    "x' && touch F #",
    "-x",
    "",
    "a/b",
    "a b",
    "a\nb",
    "é",
    "a.b",
    "a" * 65,
]


def with_source(name: str) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    tree["data"]["sources"][name] = dict(TREE["data"]["sources"]["captions"])
    return tree


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize(
    "key", ["data.sources", "evaluate.files", "evaluate.benchmarks", "registry.name", "plates.sets", "profile"]
)
def test_unsafe_name_is_refused_in_one_line(key: str, name: str) -> None:
    tree = with_source(name) if key == "data.sources" else copy.deepcopy(TREE)
    if key == "evaluate.files":
        tree["evaluate"]["files"] = {name: {"annotations": "a.json"}}
    elif key == "evaluate.benchmarks":
        tree["evaluate"]["benchmarks"] = [name]
    elif key == "registry.name":
        tree["registry"]["name"] = name
    elif key == "plates.sets":
        tree["plates"]["sets"][name] = 1
    elif key == "profile":
        tree["profile"] = name
        if name == "a.b":  # llava-1.5-7b
            validate_params(tree)
            return
    with pytest.raises(UserError, match=key.replace(".", r"\.")) as caught:
        validate_params(tree)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", [".", "..", ".a", "a/../b"])
def test_profile_name_is_no_path(name: str) -> None:
    with pytest.raises(UserError, match="profile"):
        validate_params(TREE | {"profile": name})


@pytest.mark.parametrize(
    ("stage", "names"),
    [("prepare@mine", ["mine"]), ("../dvc.yaml:plates@unifood", ["unifood"]), ("base", []), ("", [])],
)
def test_stage_knows_its_name_from_dvc(stage: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", stage)
    assert name_from_dvc() == names


def test_no_command_of_dvc_yaml_holds_a_setting() -> None:
    for file in ("dvc.yaml", "tune/dvc.yaml"):
        for stage in yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["stages"].values():
            assert "${" not in stage.get("do", stage)["cmd"]


@pytest.mark.parametrize("name", ["../../benchmarks", "x; touch F", "x' && touch F #"])
def test_dvc_runs_and_deletes_nothing_for_an_unsafe_source(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "models" / "base").mkdir(parents=True)
    for file in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / file, folder)
    for room in ("components", "pipelines", "benchmarks"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "models" / "base" / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "data" / "raw" / "plates_captions").mkdir(parents=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(with_source(name)), encoding="utf-8")

    def dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *arguments]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)

    def files() -> set[str]:
        rooms = [path for path in folder.rglob("*") if ".dvc" not in path.parts and "__pycache__" not in path.parts]
        return {str(path.relative_to(folder)) for path in rooms}

    assert dvc("init", "--no-scm", "-q").returncode == 0
    before = files()
    done = dvc("repro", "--single-item", f"prepare@{name}")  # without the stages before it, which would refuse too
    assert done.returncode != 0
    refused = "are missing from" if "." in name else "error: params.yaml: data.sources."  # DVC reads dots itself
    assert refused in done.stderr, done.stdout + done.stderr
    assert files() == before
    done = subprocess.run([sys.executable, "-m", "pipelines.prepare", name], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: params.yaml: data.sources.")
    assert done.stderr.count("\n") == 1
    assert files() == before
