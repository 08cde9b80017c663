"""A small prepared workspace: drawn dishes through the real stages, and a random tiny base."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from components.params import Params, load_params
from tests.models import write_tiny_base

ROOT = Path(__file__).parent.parent


def small_params(folder: Path, **changes: Any) -> Params:
    """params.yaml in `folder` with small numbers; `changes` by dotted key, dots written as `__`."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    small = {
        "plates__sets": {"captions": 24, "unifood": 16, "scienceqa": 8, "flickr30k": 6},
        "vce__levels": [-2, -3],
        "vce__num_heads": 2,
        "vce__num_points": 2,
        "adapter__rank": 2,
        "pretrain__global_batch": 8,
        "pretrain__epochs": 2,
        "pretrain__max_length": 400,
        "finetune__global_batch": 8,
        "finetune__epochs": 1,
        "finetune__max_length": 900,
        "training__micro_batch": 2,
        "training__checkpoint_every_steps": 2,
        "training__max_failures": 1,
        "evaluate__max_new_tokens": 8,
        "evaluate__bootstrap": 100,
        "registry__gate": {"at_least": {"ingredients.iou": 0}, "at_most": {}, "not_worse": {"ingredients.iou": 0.01}},
    }
    for key, value in {**small, **changes}.items():
        *sections, last = key.split("__")
        inner = tree
        for section in sections:
            inner = inner[section]
        inner[last] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    return load_params(path)


def prepare_workspace(folder: Path, **changes: Any) -> Params:
    """Raw sets, prepared sources, splits and base in `folder`, which must be the current folder."""
    from pipelines import plates, prepare, splits

    params = small_params(folder, **changes)
    for name in params.plates.sets:
        plates.run(params, name)
    shutil.rmtree(folder / "models", ignore_errors=True)
    write_tiny_base(folder / "models" / "base")
    for name in params.data.sources:
        prepare.run(params, name)
    splits.run(params)
    return params
