"""A user's own data beside the outputs of stages: DVC sees them, and no command of the README loses them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from components.digests import folder_digest
from tests.workspace import small_params

ROOT = Path(__file__).parent.parent.parent
SMALL_STAGES = """
stages:
  plates:
    foreach: ${sets}
    do:
      cmd: mkdir -p data/raw/plates_${key} && echo ${seed} > data/raw/plates_${key}/raw
      params: [seed]
      outs: ["data/raw/plates_${key}"]
  prepare:
    cmd: mkdir -p data/prepared && cat data/raw/plates_captions/raw data/raw/mine/a > data/prepared/rows
    deps: [data/raw/plates_captions, data/raw/mine]
    outs: [data/prepared]
"""


def runner(folder: Path) -> Callable[..., str]:
    """A function that runs a command in `folder` and returns what it printed; it must end well."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    return run


def start_repository(folder: Path) -> Callable[..., str]:
    run = runner(folder)
    run("git", "init", "-q", "-b", "main")
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        run("git", "config", key, value)
    if not (folder / ".dvc").exists():
        run("dvc", "init", "-q")
    run("git", "add", "-A")
    run("git", "commit", "-q", "-m", "start")
    return run


def outputs() -> list[str]:
    """Every path that a stage of dvc.yaml and tune/dvc.yaml writes, with the names of params.yaml."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    tables = {"${plates.sets}": params["plates"]["sets"], "${data.sources}": params["data"]["sources"]}
    found = []
    for file in ("dvc.yaml", "tune/dvc.yaml"):
        for stage in yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["stages"].values():
            inner: dict[str, Any] = stage.get("do", stage)
            keys = tables[stage["foreach"]] if "foreach" in stage else [""]
            paths = [*inner.get("outs", []), *inner.get("metrics", [])]
            found += ["".join(path).replace("${key}", key) for path, key in itertools.product(paths, keys)]
    return found


def test_git_ignores_the_outputs_and_nothing_beside_them(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    def ignored(paths: list[str]) -> set[str]:
        command = ["git", "check-ignore", "--stdin"]
        done = subprocess.run(command, cwd=tmp_path, input="\n".join(paths), capture_output=True, text=True)
        return set(done.stdout.split("\n")) - {""}

    made = outputs()
    assert len(made) > 15
    assert ignored(made) == set(made)
    folders = ["data", "data/raw", "models", "evaluation", "tune", "tables", "."]
    beside = [
        f"{folder}/{name}" for folder in folders for name in ("mine", "mine.dvc", "plates_mine.dvc", ".gitignore")
    ]
    assert ignored([*beside, *(f"{path}.dvc" for path in made if not path.startswith("data/prepared"))]) == set()


def test_clean_removes_the_outputs_and_nothing_beside_them(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    made = [path for path in outputs() if not path.startswith("tune/") and path != "registration.json"]
    own = ["data/raw/plates_mine", "data/raw/mine", "models/mine", "evaluation/mine", "report.md"]
    for path in (*made, *own):
        (tmp_path / path).mkdir(parents=True)
    subprocess.run(["make", "-s", "clean"], cwd=tmp_path, check=True)
    assert not [path for path in made if (tmp_path / path).exists()]
    assert all((tmp_path / path).exists() for path in own)


def test_dvc_leaves_out_nothing_of_a_users_folder(tmp_path: Path) -> None:
    """What is left out of `dvc add` is not in the cache, nor in a clone."""
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    run = start_repository(tmp_path)
    mine = tmp_path / "data" / "raw" / "mine"
    names = ["site", "build", "dist", ".cache", ".lea", ".venv", ".hypothesis", "a.egg-info"]
    for name in names:
        (mine / name).mkdir(parents=True)
        (mine / name / "1.jpg").write_text(name, encoding="utf-8")
    (mine / "a.partial").write_text("a", encoding="utf-8")
    run("dvc", "add", "-q", "data/raw/mine")
    [added] = yaml.safe_load((mine.parent / "mine.dvc").read_text(encoding="utf-8"))["outs"]
    assert added["nfiles"] == len(names) + 1


@pytest.mark.parametrize("committed", [True, False])
def test_own_data_outlive_experiments_checkout_and_gc(tmp_path: Path, committed: bool) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "params.yaml").write_text("seed: 1\nsets: {captions: 1}\n", encoding="utf-8")
    (folder / "dvc.yaml").write_text(SMALL_STAGES, encoding="utf-8")
    run = start_repository(folder)
    mine = folder / "data" / "raw" / "mine" / "a"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine\n", encoding="utf-8")
    run("dvc", "add", "-q", "data/raw/mine")
    if committed:
        run("git", "add", "data/raw/mine.dvc", "data/raw/.gitignore")
        run("git", "commit", "-q", "-m", "Add mine")
    run("dvc", "exp", "run", "-q", "-S", "seed=2")
    assert (folder / "data" / "prepared" / "rows").read_text(encoding="utf-8") == "2\nmine\n"
    run("dvc", "checkout", "-q")
    run("dvc", "gc", "-q", "-w", "-f")
    assert mine.read_text(encoding="utf-8") == "mine\n"
    shutil.rmtree(mine.parent)
    run("dvc", "checkout", "-q", "data/raw/mine.dvc")  # the cache has them too
    assert mine.read_text(encoding="utf-8") == "mine\n"


def copy_of_the_repository(folder: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, folder / name)


def put_own_data(folder: Path) -> None:
    """Five photos and their LLaVA-format JSON in data/raw/mine."""
    mine = folder / "data" / "raw" / "mine"
    (mine / "images").mkdir(parents=True)
    records = []
    for number in range(5):
        Image.new("RGB", (40, 30 + number), (40 * number, 90, 120)).save(mine / "images" / f"{number}.png")
        turns = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": f"A soup {number}."}]
        records.append({"id": str(number), "image": f"{number}.png", "conversations": turns})
    (mine / "train.json").write_text(json.dumps(records), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("committed", [True, False])
def test_own_data_outlive_every_command_of_the_readme(
    tmp_path: Path, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LEA_HOME")
    folder = tmp_path / "work"
    folder.mkdir()
    copy_of_the_repository(folder)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    mine = {"kind": "llava_json", "path": "data/raw/mine", "annotations": "train.json", "images": "images"}
    small_params(
        folder,
        data__sources=tree["data"]["sources"] | {"mine": mine},
        finetune__sources=[*tree["finetune"]["sources"], "mine"],
        base__tiny__vision__images=64,
        base__tiny__vision__epochs=1,
        base__tiny__language__texts=64,
    )
    run = start_repository(folder)
    run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    run("git", "commit", "-q", "-a", "-m", "Add a remote")
    put_own_data(folder)
    plain = [folder / "photos" / "a.txt", folder / "data" / "raw" / "notes" / "a.txt", folder / "models" / "own" / "a"]
    for path in plain:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept", encoding="utf-8")
    before = folder_digest(folder / "data" / "raw" / "mine")

    def all_there() -> None:
        assert folder_digest(folder / "data" / "raw" / "mine") == before
        assert all(path.read_text(encoding="utf-8") == "kept" for path in plain)

    run("dvc", "add", "-q", "data/raw/mine")
    run("dvc", "add", "-q", "models/own")
    assert "data/raw/mine" not in run("git", "status", "--short", "--untracked-files=all").replace("mine.dvc", "")
    if committed:
        run("git", "add", "data/raw/mine.dvc", "data/raw/.gitignore", "models/own.dvc", "models/.gitignore")
        run("git", "commit", "-q", "-m", "Add mine")
    run("dvc", "exp", "run", "-q", "-S", "evaluate.samples_shown=3")
    all_there()
    if committed:
        run("git", "add", "dvc.lock")
        run("git", "commit", "-q", "-a", "-m", "Run")
    run("dvc", "exp", "run", "-q", "--queue", "-S", "evaluate.samples_shown=2")
    run("dvc", "queue", "start", "-q")
    deadline = time.monotonic() + 400
    while (waiting := run("dvc", "queue", "status")) and ("Queued" in waiting or "Running" in waiting):
        assert time.monotonic() < deadline, waiting
        time.sleep(3)
    assert ("Success" in waiting) == committed, waiting  # the copy that a queue works in holds what is committed
    all_there()
    run("dvc", "exp", "apply", run("dvc", "exp", "list", "--name-only").split()[-1])
    all_there()
    if committed:
        run("git", "add", "dvc.lock")
        run("git", "commit", "-q", "-a", "-m", "Apply")
    run("dvc", "checkout")
    all_there()
    run("dvc", "push", "-q")
    run("dvc", "gc", "-q", "-w", "-f")
    all_there()
    run("make", "-o", ".venv/.ready", "clean")
    all_there()
    if committed:
        run("git", "clone", "-q", str(folder), str(tmp_path / "clone"))
        runner(tmp_path / "clone")("dvc", "pull")
        assert folder_digest(tmp_path / "clone" / "data" / "raw" / "mine") == before
    shutil.rmtree(folder / ".dvc" / "cache")
    shutil.rmtree(folder / "data" / "raw" / "mine")
    run("dvc", "pull", "-q", "data/raw/mine.dvc")  # the remote has them, committed or not
    all_there()
