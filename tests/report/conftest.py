"""A small run: the files that the stages leave, with few figures, so that a test can look for each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from components.params import Params, load_params
from components.report.ledger import ThisRun

METRICS: dict[str, Any] = {
    "base": {"ingredients": {"iou": 0.051, "f1": 0.088}, "nutrition": {"pmae": 61.4, "unparsed": 40.0}},
    "finetune": {"ingredients": {"iou": 0.7812, "f1": 0.8433}, "nutrition": {"pmae": 21.37, "unparsed": 0.0}},
    "blind": {"ingredients": {"iou": 0.1496, "f1": 0.2101}, "nutrition": {"pmae": 55.5, "unparsed": 0.0}},
    "mean": {"nutrition": {"pmae": 48.25}},
    "differences": {
        "ingredients.iou finetune - blind": {"value": 0.6316, "low": 0.6021, "high": 0.6594, "confidence": 0.95},
        "ingredients.iou finetune / blind": {"value": 5.22, "low": 4.61, "high": 5.94, "confidence": 0.95},
        "nutrition.pmae finetune - mean": {"value": -26.88, "low": -30.1, "high": -23.4, "confidence": 0.95},
    },
}
SAMPLES = [
    {
        "image": "image_0.png",
        "heat_map": "heat_0.png",
        "items": [
            {
                "task": "ingredients",
                "question": "Can you list the ingredients present in this dish?",
                "reference": ["The ingredients include rice, soy_sauce and egg."],
                "answers": {
                    "finetune": "The ingredients include egg, lemon and soy_sauce.",
                    "blind": "The ingredients include corn.",
                },
            }
        ],
    },
    {
        "image": "image_1.png",
        "heat_map": None,
        "items": [
            {
                "task": "caption",
                "question": "Provide a caption <b> & more | for it.",
                "reference": ["one", "two"],
                "answers": {"finetune": "a <script>alert(1)</script> | plate", "base": ""},
            }
        ],
    },
]
MANIFEST = {
    "source": "dishes",
    "kind": "unifood",
    "records": {"read": 1234, "kept": 1230, "rejected": 4, "reasons": {"image_missing": 3, "empty_answer": 1}},
    "digest": "0123456789abcdef" * 4,
}
SUMMARY = {"dishes": {"train": {"ingredients": 500, "recipe": 507, "rows": 600}, "test": {"ingredients": 223}}}
REGISTRATION = {
    "name": "lea",
    "version": 7,
    "aliases": ["candidate", "champion"],
    "gate": {"passed": True, "reasons": ["passed: ingredients.iou 0.7812 must be at least 0.7"]},
}
LOG = "step,epoch,samples,loss,learning_rate,samples_per_s,seconds\n1,0.1,8,4.5,0.1,99.5,1\n2,0.2,16,3.25,0.1,99.5,75\n"
ENTROPY = """layer,task,before,after
layers.0.self_attn.q_proj,recipe,2.0,1.0
layers.0.self_attn.q_proj,caption,3.0,1.5
layers.1.self_attn.v_proj,recipe,1.0,1.25
"""
SKILL_SPACE = """layer,task,unit,before,after
layers.0.self_attn.q_proj,recipe,0,0.25,0.1
layers.0.self_attn.q_proj,recipe,1,0.75,0.9
layers.0.self_attn.q_proj,caption,0,0.35,0.3
layers.0.self_attn.q_proj,caption,1,0.65,0.7
"""
EXPERTS = """layer,task,expert,rank,load,off_share
layers.0.self_attn.q_proj,recipe,0,8,0.5,0.0
layers.0.self_attn.q_proj,recipe,1,16,0.1,0.75
layers.1.self_attn.q_proj,recipe,0,8,0.7,0.0
layers.1.self_attn.q_proj,recipe,1,16,0.3,0.25
"""
TIMES = {
    "date": "2026-01-31",
    "processor": "A Processor",
    "ratios": {"1024 llava": {"prefill": {"dual_lora + vce": {"ratio": 1.0349}}}},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with everything that the report can show."""
    write(tmp_path / "evaluation/metrics.json", METRICS)
    write(tmp_path / "evaluation/insight/samples.json", SAMPLES)
    write(tmp_path / "evaluation/insight/entropy.csv", ENTROPY)
    write(tmp_path / "evaluation/insight/skill_space.csv", SKILL_SPACE)
    write(tmp_path / "evaluation/insight/experts.csv", EXPERTS)
    write(tmp_path / "benchmarks/results/adapters.json", TIMES)
    for name in ("image_0.png", "image_1.png", "heat_0.png"):
        Image.new("RGB", (12, 12), (90, 120, 30)).save(tmp_path / "evaluation/insight" / name)
    for stage in ("pretrain", "finetune"):
        write(tmp_path / "models" / stage / "log.csv", LOG)
    write(tmp_path / "data/prepared/dishes/manifest.json", MANIFEST)
    write(tmp_path / "data/splits/summary.json", SUMMARY)
    write(tmp_path / "registration.json", REGISTRATION)
    write(tmp_path / "models/finetune/model.json", {"run": "feedface" * 8})
    return tmp_path


@pytest.fixture
def params() -> Params:
    return load_params(Path(__file__).parents[2] / "params.yaml")


@pytest.fixture
def this_run(params: Params) -> ThisRun:
    return ThisRun(params=params, metrics=METRICS, profiles={}, benchmarks=frozenset({"unifood"}))


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
