"""A registered model answers from a fresh process that knows nothing of the repository."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from components.errors import UserError
from components.serving.predict import predict
from components.tracking import store
from pipelines import register
from tests.serving.tiny_model import build_tiny_model

ASK = """
import base64, json, sys
import mlflow
model = mlflow.pyfunc.load_model("models:/lea@champion")
data = open(sys.argv[1], "rb").read()
forms = (data, base64.b64encode(data).decode(), None)
rows = [{"image": form, "prompt": "What is it?"} for form in forms]
import components
print(json.dumps({"answers": model.predict(rows), "code": components.__file__}))
"""


@pytest.fixture
def image(workspace) -> Path:
    path = workspace.root / "dish.png"
    Image.new("RGB", (40, 30), (200, 30, 60)).save(path)
    return path


def test_registered_model_answers_far_from_the_repository(workspace, image, tmp_path):
    build_tiny_model(workspace)
    workspace.measure(0.8)
    register.run(workspace.params)
    uri = store.tracking_uri()
    away = tmp_path / "away"
    away.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("LEA_HOME", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(image)],
        cwd=away,
        env={**environment, "MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    from_bytes, from_base64, without = found["answers"]
    assert from_bytes == from_base64
    assert without != from_bytes
    assert str(workspace.root / "home/mlflow/artifacts") in found["code"]
    assert list(away.iterdir()) == []


def test_unknown_model_is_refused_in_one_line(workspace, image):
    register.run(workspace.params)
    for model, message in (
        ("models:/lea@chmpion", r"no version or alias 'chmpion'.*aliases candidate, champion"),
        ("models:/lea/9", r"no version or alias '9'"),
        ("models:/nobody@champion", r"no model 'nobody'.*run: dvc repro"),
        ("models:/lea", r"give models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/it's@champion", r"give models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("nowhere", r"or the folder of a logged model"),
    ):
        with pytest.raises(UserError, match=message) as error:
            predict(model, image, "What is it?")
        assert "\n" not in str(error.value)


def test_missing_or_broken_image_is_refused_before_the_model_is_loaded(workspace):
    with pytest.raises(UserError, match=r"--image none\.png is missing"):
        predict("models:/lea@champion", Path("none.png"), "What is it?")
    Path("text.png").write_text("no image")
    with pytest.raises(UserError, match=r"--image text\.png is not an image"):
        predict("models:/lea@champion", Path("text.png"), "What is it?")


def test_a_folder_answers_without_running_its_code(champion, image_of, tmp_path):
    logged = next((champion.root / "home/mlflow/artifacts").rglob("MLmodel")).parent
    folder = tmp_path / "logged"
    shutil.copytree(logged, folder)
    trap = "raise SystemExit('the code of the folder ran')\n"
    for code in [folder / "pyfunc_model.py", *(folder / "code").rglob("*.py")]:
        code.write_text(trap)
    assert predict(str(folder), image_of, "What is it?") in {
        predict(f"models:/lea/{number}", image_of, "What is it?") for number in (1, 2)
    }


def test_weights_that_are_not_those_registered_are_refused(champion, image_of):
    version = store.connect().get_model_version("lea", "1")
    assert version.source is not None
    source = version.source.removeprefix("models:/")
    parts = champion.root / "home/mlflow/artifacts/models" / source / "artifacts/artifacts/parts"
    file = parts / "connector.safetensors"
    whole = file.read_bytes()
    try:
        file.unlink()  # it may be a hard link
        file.write_bytes(whole[:-4] + bytes(4))
        with pytest.raises(UserError, match="files of lea version 1 are missing or damaged") as error:
            predict("models:/lea/1", image_of, "What is it?")
        assert "\n" not in str(error.value)
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("a" * 40_000, "at most 32,768"),
        ("\udcff", "not UTF-8"),
        ("a" * 30_000, "has room for"),
    ],
)
def test_a_prompt_that_cannot_be_read_is_refused(champion, prompt, message):
    with pytest.raises(UserError, match=message):
        predict("models:/lea@champion", None, prompt)


def test_a_pipe_and_half_an_image_are_refused(tmp_path, image_of):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UserError, match="no regular file"):
        predict("models:/lea@champion", tmp_path / "pipe.png", "What is it?")
    half = tmp_path / "half.png"
    half.write_bytes(image_of.read_bytes()[:70])
    with pytest.raises(UserError, match=r"half\.png is not an image that can be used"):
        predict("models:/lea@champion", half, "What is it?")


@pytest.mark.parametrize("name", ["feature%2Fx", "a%20b", "what?x#y", "50% of it", "gerät {1}"])
def test_a_home_under_an_odd_path_answers(champion, image_of, name, tmp_path, monkeypatch):
    answer = predict("models:/lea@champion", image_of, "What is it?")
    shutil.copytree(champion.root / "home", tmp_path / name / "home")
    monkeypatch.setenv("LEA_HOME", str(tmp_path / name / "home"))
    assert predict("models:/lea@champion", image_of, "What is it?") == answer
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, image_of.name])


@pytest.fixture
def image_of(tmp_path) -> Path:
    path = tmp_path / "dish.png"
    Image.new("RGB", (40, 30), (200, 30, 60)).save(path)
    return path
