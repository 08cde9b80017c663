"""Stage `pretrain` (stage 1 of the recipe): the connector learns to speak the language model's language."""

from __future__ import annotations

from pathlib import Path

from components.params import Params
from pipelines import stage

OUT = Path("models/pretrain")


def run(params: Params) -> None:
    from components.training.stage import run_training

    run_training("pretrain", params, params.pretrain, adapter=None, start=None, out=OUT)
    print(f"pretrain: connector -> {OUT}")


if __name__ == "__main__":
    stage.main(run)
