"""Real files through the same stages: web image-text pairs for stage 1, Nutrition5k dishes for stage 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.params import load_params, profiles
from pipelines import evaluate, finetune, prepare, pretrain, register, report, splits
from tests.models import write_tiny_base

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.realdata
def test_photos_profile_runs_on_real_files(realdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    profiles.apply("photos")
    tree: dict[str, Any] = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    tree["vce"] |= {"levels": [-2, -3], "num_heads": 2, "num_points": 2}  # the tests' base has 4 layers
    for stage in ("pretrain", "finetune"):
        tree[stage] |= {"epochs": 1, "max_length": 900}
    tree["evaluate"] |= {"max_new_tokens": 8, "bootstrap": 100}
    Path("params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    params = load_params()
    write_tiny_base(Path("models/base"))
    for name in ("web_captions", "nutrition5k"):
        shutil.copytree(realdata / name, f"data/raw/{name}")
        prepare.run(params, name)
    splits.run(params)
    for stage in (pretrain, finetune, evaluate, register, report):
        stage.run(params)

    captions = json.loads(Path("data/prepared/web_captions/manifest.json").read_text(encoding="utf-8"))
    dishes = json.loads(Path("data/prepared/nutrition5k/manifest.json").read_text(encoding="utf-8"))
    assert captions["records"]["kept"] == 32
    assert dishes["records"]["kept"] == 88  # 44 photos of 6 dishes, two tasks each
    metrics = json.loads(Path("evaluation/metrics.json").read_text(encoding="utf-8"))
    assert {"ingredients", "nutrition"} <= metrics["finetune"].keys()
    assert Path("report/report.html").stat().st_size > 20_000
