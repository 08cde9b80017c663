"""A registered model answers from a fresh process that knows nothing of the repository."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from components.errors import UserError
from components.serving.predict import predict
from components.tracking import store
from pipelines import register

ASK = """
import base64, json, sys
import mlflow
model = mlflow.pyfunc.load_model("models:/lea@champion")
data = open(sys.argv[1], "rb").read()
forms = (data, base64.b64encode(data).decode(), sys.argv[1], None)
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
    told = json.loads(done.stdout.splitlines()[-1])
    from_bytes, from_base64, from_path, without = told["answers"]
    assert from_bytes == from_base64 == from_path
    assert without != from_bytes
    assert str(workspace.root / "home/mlflow/artifacts") in told["code"]
    assert list(away.iterdir()) == []


def test_unknown_model_is_refused_in_one_line(workspace, image):
    register.run(workspace.params)
    for model, told in (
        ("models:/lea@chmpion", r"no version or alias 'chmpion'.*aliases candidate, champion"),
        ("models:/lea/9", r"no version or alias '9'"),
        ("models:/nobody@champion", r"no model 'nobody'.*run: dvc repro"),
        ("models:/lea", r"give models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("nowhere", r"or a logged model's folder"),
    ):
        with pytest.raises(UserError, match=told) as error:
            predict(model, image, "What is it?")
        assert "\n" not in str(error.value)


def test_missing_or_broken_image_is_refused_before_the_model_is_loaded(workspace):
    with pytest.raises(UserError, match=r"--image none\.png is missing"):
        predict("models:/lea@champion", Path("none.png"), "What is it?")
    Path("text.png").write_text("no image")
    with pytest.raises(UserError, match=r"--image text\.png is not an image"):
        predict("models:/lea@champion", Path("text.png"), "What is it?")


def test_image_is_taken_in_every_accepted_form(workspace, image):
    from components.serving.pyfunc_model import image_bytes

    data = image.read_bytes()
    text = base64.b64encode(data).decode()
    for form in (data, text, f"data:image/png;base64,{text}", str(image), base64.b64encode(data * 40).decode()):
        assert data in (image_bytes(form) or b"")
    assert image_bytes(None) is None
    assert image_bytes(float("nan")) is None
    with pytest.raises(ValueError, match="image must be"):
        image_bytes("no/such/file.png")


def build_tiny_model(workspace) -> None:
    """Random weights in the form in which the stages leave them."""
    import shutil

    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        CLIPVisionModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    from components.model.assemble import build
    from components.model.base import compose, load_base, save_base
    from components.model.weights import save_parts

    torch.manual_seed(1)  # weights with which the image matters
    tokens = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, [], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    vision = CLIPVisionModel(CLIPVisionConfig(**sizes, num_hidden_layers=6, image_size=24, patch_size=8))
    language = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, vocab_size=len(tokenizer), eos_token_id=2))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})

    shutil.rmtree(workspace.base)
    model = compose(getattr(vision, "vision_model", vision), language, tokenizer, processor, seed=1)
    save_base(workspace.base, model, tokenizer, processor, "tiny", "tiny")
    base = load_base(workspace.base)
    model, wrapped = build(base, workspace.params.vce, workspace.params.adapter)
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    settings = {
        "base": base.reference,
        "vce": workspace.params.vce.model_dump(),
        "adapter": workspace.params.adapter.model_dump(),
        "template": "v1",
        "image": "pad",
        "run": "finetune-tiny",
        "data": {},
    }
    shutil.rmtree(workspace.parts)
    workspace.parts.mkdir()
    save_parts(workspace.parts, settings, weights, wrapped)
