"""Stage `finetune` (stage 2 of the recipe): connector + adapter, or the language model itself, learn the tasks."""

from __future__ import annotations

from components.params import Params
from components.workspace import FINETUNE, PRETRAIN
from pipelines import stage


def run(params: Params) -> None:
    from components.training.stage import run_training

    frozen = params.finetune.language_model == "frozen"
    run_training("finetune", params, params.finetune, params.adapter if frozen else None, start=PRETRAIN, out=FINETUNE)
    print(f"finetune: connector and {'adapter' if frozen else 'language model'} -> {FINETUNE}")


if __name__ == "__main__":
    stage.main(run, tasks="before")
