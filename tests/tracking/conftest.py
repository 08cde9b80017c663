"""A repository in miniature: its own home folder, a tracking database with tables, small model folders."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.digests import folder_digest
from components.files import write_json
from components.model.stored import model_digest
from components.params import Params, validate_params
from components.tracking import store
from components.tracking.records import seal

ROOT = Path(__file__).parents[2]


@dataclass
class Workspace:
    """The folder a test runs in, laid out as the stages leave it."""

    root: Path
    params: Params

    @property
    def parts(self) -> Path:
        return self.root / "models/finetune"

    @property
    def base(self) -> Path:
        return self.root / "models/base"

    def train(self, weights: str) -> None:
        """Pretend that stage 2 ended with these weights."""
        shutil.rmtree(self.parts, ignore_errors=True)
        (self.parts / "adapter").mkdir(parents=True)
        (self.parts / "connector.safetensors").write_text(f"connector {weights}")
        (self.parts / "adapter/adapter_config.json").write_text("{}")
        (self.parts / "adapter/adapter_model.safetensors").write_text(f"adapter {weights}")
        (self.parts / "log.csv").write_text("step,loss\n")
        settings = {
            "base": json.loads((self.base / "base.json").read_text()),
            "vce": None,
            "adapter": {"kind": "dual_lora"},
            "template": "v1",
            "image": "pad",
            "run": f"finetune-{weights}",
            "data": {"unifood": "d" * 64},
        }
        write_json(self.parts / "model.json", settings)

    def measure(
        self, iou: float, blind: float = 0.1, *, questions: str = "first", tokens: int = 72, **more: float
    ) -> None:
        """Pretend that the evaluation found this IoU; `more`: other metrics of the ingredients."""
        metrics = {
            "finetune": {"ingredients": {"iou": iou, **more}},
            "blind": {"ingredients": {"iou": blind}},
            "differences": {},
        }
        conditions = {
            "questions": {"unifood": questions},
            "settings": {"evaluate.max_new_tokens": str(tokens)},
            "code": {"the evaluation": "c"},
            "versions": {"torch": "2.13.0"},
        }
        measured = {
            "model": model_digest(self.parts),
            "base": json.loads((self.base / "base.json").read_text())["digest"],
            "data": {"unifood": "d" * 64, "splits": "e" * 64},
            "template": "v1",
            "image": "pad",
            "conditions": conditions,
            "sighted": metrics["finetune"],
        }
        write_json(self.root / "evaluation/metrics.json", metrics)
        write_json(self.root / "evaluation/measured.json", {**measured, "seal": seal(metrics, measured)})

    def registration(self) -> Any:
        return json.loads((self.root / "registration.json").read_text())

    def promotions(self) -> list[Any]:
        path = self.root / "home/promotions.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables made once: that takes seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    store._set_defaults()
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments(max_results=1)
    return path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Workspace:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_ROOT", "LEA_BASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home/mlflow").mkdir(parents=True)
    shutil.copy(empty_database, tmp_path / "home/mlflow/mlflow.db")

    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    gate = {"at_least": {"ingredients.iou": 0.7}, "at_most": {}, "not_worse": {"ingredients.iou": 0.03}}
    tree["registry"] = {"name": "lea", "gate": gate}
    made = Workspace(tmp_path, validate_params(tree))
    made.base.mkdir(parents=True)
    (made.base / "model.safetensors").write_text("the frozen weights")
    (made.base / "tokenizer.json").write_text("{}")
    reference = {"kind": "tiny", "id": "tiny", "revision": None, "digest": folder_digest(made.base)}
    write_json(made.base / "base.json", reference)
    made.train("a")
    made.measure(0.8)
    return made
