"""An exported folder answers in plain transformers, without this project, as `lea predict` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from PIL import Image
from torch import nn

from components.errors import UserError
from components.serving import export as export_module
from components.serving.export import export
from components.serving.export_peft import export_peft
from components.serving.hugging_face import DualLoraLinear
from components.serving.loading import find_version, load_version
from components.serving.predict import predict

QUESTIONS = ("What is it?", "How to make this dish?")
LOAD = """
import json, sys
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
folder, image, *questions = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
answers = []
for question in questions:
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    inputs = processor(images=Image.open(image), text=text, add_special_tokens=False, return_tensors="pt")
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=72)
    new = tokens[0, inputs["input_ids"].shape[1] :]
    answers.append(processor.tokenizer.decode(new, skip_special_tokens=True).strip())
odd = [name for name in sys.modules if name.split(".")[0] in ("components", "peft")]
print(json.dumps({"answers": answers, "odd": odd, "layers": str(model)}))
"""


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "dish.png"
    Image.linear_gradient("L").resize((40, 30)).convert("RGB").save(path)
    return path


def answers_of_transformers(folder, image, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-P", "-c", LOAD, str(folder), str(image), *QUESTIONS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_dual_lora_answers_in_plain_transformers(champion, image, tmp_path):
    folder = tmp_path / "exported"
    assert export("models:/lea@champion", folder).version == 1
    found = answers_of_transformers(folder, image, tmp_path)
    assert found["answers"] == [predict("models:/lea/1", image, question) for question in QUESTIONS]
    assert found["odd"] == []
    assert "DualLoraLinear" in found["layers"]
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "modeling_lea.py", "README.md"} <= names
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    code = "".join(path.read_text() for path in folder.glob("*.py"))
    assert "jaxtyping" not in code  # transformers refuses a folder whose imports are not installed
    assert str(champion.root) not in (folder / "config.json").read_text()
    with pytest.raises(UserError, match="is there already"):
        export("models:/lea@champion", folder)


@pytest.mark.slow
def test_plain_lora_is_merged(champion, image, tmp_path, monkeypatch):
    """The champion's adapter taken away and a LoRA put in its place."""
    from dataclasses import replace

    from peft import LoraConfig, get_peft_model

    from components.evaluation.inference.answering import answer
    from components.evaluation.question import Question

    def with_lora(version):
        loaded = load_version(version)
        model = loaded.assistant.model
        for layer in list(model.model.language_model.layers):
            for name in ("q_proj", "v_proj"):
                setattr(layer.self_attn, name, getattr(layer.self_attn, name).get_base_layer())
        config = LoraConfig(r=4, target_modules=r".*language_model.*q_proj", init_lora_weights=False)
        get_peft_model(model, config)
        model.eval()
        return replace(loaded, adapter="lora")

    import torch

    torch.manual_seed(5)
    loaded = with_lora(find_version("models:/lea/1"))
    asked = [Question(str(n), "", "", q, (), image=image.read_bytes()) for n, q in enumerate(QUESTIONS)]
    expected = answer(loaded.assistant, asked, batch=1, max_new_tokens=72, max_pixels=10**6)
    monkeypatch.setattr(export_module, "load_version", lambda version: loaded)
    export("models:/lea/1", tmp_path / "exported")
    found = answers_of_transformers(tmp_path / "exported", image, tmp_path)
    assert found["answers"] == expected
    assert "DualLoraLinear" not in found["layers"]


def test_what_has_no_such_form_is_refused_before_anything_is_written(champion, tmp_path, monkeypatch):
    from dataclasses import replace

    loaded = load_version(find_version("models:/lea/1"))
    monkeypatch.setattr(export_module, "load_version", lambda version: replace(loaded, adapter="rode"))
    with pytest.raises(UserError, match="adapter rode has no such form yet"):
        export("models:/lea/1", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_no_linear_layer_does_more_than_its_product():
    """Engines swap every nn.Linear for their own: a subclass would lose what it adds."""
    layer = DualLoraLinear(nn.Linear(6, 5), 4, 2.0, True, "relu")
    linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    assert len(linear) == 4
    assert all(type(module) is nn.Linear for module in linear)


def test_a_peft_folder_is_loaded_by_peft_and_its_card_says_how(champion, tmp_path):
    from peft import PeftModel
    from safetensors.torch import load_file

    from components import params
    from components.model.assemble import add_connector
    from components.model.base import load_base
    from components.model.weights import adapter_tensors, load_connector

    folder = tmp_path / "adapter"
    export_peft("models:/lea@champion", folder)
    base = load_base(champion.base).model
    add_connector(base, params.Vce(**json.loads((folder / "model.json").read_text())["vce"]))
    load_connector(base, folder)
    wrapped = PeftModel.from_pretrained(base, str(folder))
    stored = load_file(folder / "adapter_model.safetensors")
    held = adapter_tensors(wrapped)
    assert stored.keys() == held.keys()
    assert all((stored[name] == held[name]).all() for name in stored)
    card = (folder / "README.md").read_text()
    assert "DUAL_LORA" in card
    assert "ingredients.iou | 0.8" in card
    code = "\n".join(line[4:] for line in card.splitlines() if line.startswith("    "))
    code = code.replace('"adapter"', repr(str(folder))).replace('"models/base"', repr(str(champion.base)))
    loaded: dict[str, Any] = {}
    exec(code, loaded)
    again = adapter_tensors(loaded["model"])
    assert all((stored[name] == again[name]).all() for name in stored)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "connector.safetensors",
        "model.json",
    ]
    with pytest.raises(UserError, match="is there already"):
        export_peft("models:/lea@champion", folder)
