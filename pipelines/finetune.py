"""Stage `finetune` (stage 2 of the recipe): projector + VCE + adapter learn the tasks."""

from __future__ import annotations

from pathlib import Path

from components.params import Params
from pipelines import stage

OUT, START = Path("models/finetune"), Path("models/pretrain")


def run(params: Params) -> None:
    from components.training.stage import run_training

    run_training("finetune", params, params.finetune, adapter=params.adapter, start=START, out=OUT)
    print(f"finetune: projector, VCE and adapter -> {OUT}")


if __name__ == "__main__":
    stage.main(run)
