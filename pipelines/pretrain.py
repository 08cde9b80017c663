"""Stage `pretrain` (stage 1 of the recipe): the connector learns to speak the language model's language."""

from __future__ import annotations

from components.params import Params
from components.workspace import PRETRAIN
from pipelines import stage


def run(params: Params) -> None:
    from components.training.stage import run_training

    run_training("pretrain", params, params.pretrain, adapter=None, start=None, out=PRETRAIN)
    print(f"pretrain: connector -> {PRETRAIN}")


if __name__ == "__main__":
    stage.main(run, tasks="before")
