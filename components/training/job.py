"""What a training run is: everything that determines its result, and how it is run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.digests import digest
from components.imports import code_digest, library_versions
from components.params import Adapter, Finetune, Pretrain, Training, Vce, VLora

RESULT_SETTINGS = (
    "precision",
    "shared_prefix",
    "grad_clip",
    "max_refused",
    "spike",
    "deepspeed",
)  # the settings of `training` that change results


@dataclass(frozen=True)
class Validation:
    """How a run is watched. It changes nothing that the run learns and is no part of its name."""

    every_steps: int
    max_samples: int  # about; 0: the whole validation split


@dataclass(frozen=True)
class Job:
    """A training run. Paths are absolute: workers run elsewhere."""

    stage: str
    seed: int
    recipe: Pretrain | Finetune
    vce: Vce | None
    vlora: VLora | None  # None: the connector is a projector
    adapter: Adapter | None
    training: Training
    base: Path
    start: Path | None  # parts to go on from (stage 1's), or none
    prepared: str  # a folder, or a URL that fsspec knows
    assignments: Path
    inputs: dict[str, str]  # digests of base, start and splits
    sources: dict[str, str]  # digests of the sources' manifests
    folder: Path  # run state: checkpoints and metrics.jsonl
    validation: Validation | None = None

    @property
    def trains_language_model(self) -> bool:
        return isinstance(self.recipe, Finetune) and self.recipe.language_model == "trained"

    def settings(self) -> dict[str, Any]:
        """The settings that determine the result, as a plain tree."""
        training = self.training.model_dump()
        training_settings = {name: training[name] for name in RESULT_SETTINGS}
        if balance_weight(self.adapter):  # measured over each micro-batch, so that their size and number matter
            training_settings |= {name: training[name] for name in ("workers", "micro_batch")}
        return {
            "stage": self.stage,
            "seed": self.seed,
            "recipe": self.recipe.model_dump(),
            "vce": self.vce.model_dump() if self.vce else None,
            "vlora": self.vlora.model_dump() if self.vlora else None,
            "adapter": self.adapter.model_dump() if self.adapter else None,
            "training": training_settings,
        }


def balance_weight(adapter: Adapter | None) -> float:
    """Weight of the experts' load-balancing loss; 0 where there are no experts to balance."""
    return adapter.lora_moe.balance_loss if adapter and adapter.kind == "lora_moe" else 0.0


def run_digest(job: Job) -> str:
    """The name of a run's result: settings, data, base, code and libraries; not workers, paths or logging."""
    return digest(
        {
            "settings": job.settings(),
            "inputs": job.inputs,
            "sources": job.sources,
            "code": code_digest("components.training.loop"),
            "libraries": library_versions(),
        }
    )


def to_message(job: Job) -> dict[str, Any]:
    """The job as plain values that any process can read."""
    return {name: _plain(value) for name, value in asdict(job).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return value.model_dump() if hasattr(value, "model_dump") else value


def from_message(message: dict[str, Any]) -> Job:
    recipe = Finetune if "adapter" in message["recipe"]["learning_rate"] else Pretrain
    return Job(
        stage=message["stage"],
        seed=message["seed"],
        recipe=recipe(**message["recipe"]),
        vce=Vce(**message["vce"]) if message["vce"] else None,
        vlora=VLora(**message["vlora"]) if message["vlora"] else None,
        adapter=Adapter(**message["adapter"]) if message["adapter"] else None,
        training=Training(**message["training"]),
        base=Path(message["base"]),
        start=Path(message["start"]) if message["start"] else None,
        prepared=message["prepared"],
        assignments=Path(message["assignments"]),
        inputs=message["inputs"],
        sources=message["sources"],
        folder=Path(message["folder"]),
        validation=Validation(**message["validation"]) if message["validation"] else None,
    )
