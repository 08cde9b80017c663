"""Stage `finetune` (stage 2 of the recipe): connector + adapter, or the language model itself, learn the tasks."""

from __future__ import annotations

from pathlib import Path

from components.params import Params
from pipelines import stage

OUT, START = Path("models/finetune"), Path("models/pretrain")


def run(params: Params) -> None:
    from components.training.stage import run_training

    frozen = params.finetune.language_model == "frozen"
    run_training("finetune", params, params.finetune, params.adapter if frozen else None, start=START, out=OUT)
    print(f"finetune: connector and {'adapter' if frozen else 'language model'} -> {OUT}")


if __name__ == "__main__":
    stage.main(run)
