"""How much could two trials gain that share the steps of one process? Prints the bound, writes JSON.

    OMP_NUM_THREADS=1 python -m benchmarks.batched_trials --repeats 3

Run in a workspace in which `dvc repro pretrain` has been done. Several adapters over one base may train in one
process, their samples side by side in each step (mLoRA, LoRAFusion), where one alone leaves the device idle. Two such
trials of n samples a step can take no less than one of 2 n, so they gain at most 2 t(n) / t(2 n) over one after
the other. t is the median time of the steps of stage 2 with the settings of params.yaml, one worker, all samples in one
micro-batch. Each repeat measures n and 2 n, in turns; the result is the median over repeats of the bound.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.machine import machine
from components.params import Params, load_params
from components.training.journal import TIMINGS_FILE, read_journal
from components.training.loop import train
from components.training.stage import make_job
from components.workspace import PRETRAIN

FIRST_STEPS = 5  # left out: what is made at first use


def step_seconds(params: Params, samples: int, folder: Path) -> float:
    training = params.training.model_copy(
        update={"workers": 1, "micro_batch": samples, "threads_per_worker": torch.get_num_threads()}
    )
    recipe = params.finetune.model_copy(update={"global_batch": samples, "epochs": 1})
    job = make_job("finetune", params.model_copy(update={"training": training}), recipe, params.adapter, PRETRAIN)
    train(replace(job, folder=folder))
    return statistics.median(line["seconds"] for line in read_journal(folder / TIMINGS_FILE)[FIRST_STEPS:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/batched_trials.json"))
    arguments = parser.parse_args()
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())  # pyright: ignore
    params = load_params()
    alone = params.finetune.global_batch // params.training.workers
    seconds: dict[int, list[float]] = {alone: [], 2 * alone: []}
    with tempfile.TemporaryDirectory(prefix="lea-batched-") as folder:
        for number in range(arguments.repeats):
            for samples, found in seconds.items():
                found.append(step_seconds(params, samples, Path(folder) / f"{samples}-{number}"))
                print(f"{samples} samples a step: {found[-1]:.3f} s", flush=True)
    dist.destroy_process_group()
    bounds = [2 * one / both for one, both in zip(*seconds.values(), strict=True)]
    found = {"machine": machine(), "threads": torch.get_num_threads(), "seconds": seconds, "bounds": bounds}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"two trials in one process gain at most {statistics.median(bounds):.2f} times")


if __name__ == "__main__":
    main()
