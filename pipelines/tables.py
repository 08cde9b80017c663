"""The paper's tables on the settings of params.yaml: `python -m pipelines.tables [TABLE ...] [SEED ...]`.

`tasks` is the sweep over the number of tasks, whose data are drawn for it (components/tables/sweep.py).

Every variant of a table is trained and asked with every seed of `tables.seeds`; base, prepared data and splits are
those of the workspace, and variants that agree on stage 1 share it. A table is written after each seed that is
through. Training runs and answers lie in run state under their digests: a killed command continues where it was, and
what another table or `dvc repro` has trained already is not trained again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from components.params import Params
from components.tables.variants import STUDIES, Study, study
from components.workspace import BASE, PREPARED, TABLES
from pipelines import stage

if TYPE_CHECKING:
    from components.tables.workers import RunJob

TASKS = "tasks"
FOUND_WITHIN_S = 1.5  # a point that was there before


def run(params: Params, *wanted: str) -> None:
    names = [name for name in wanted if not name.isdigit()] or [*STUDIES, TASKS]
    studies = [study(name) for name in names if name != TASKS]
    chosen = [int(name) for name in wanted if name.isdigit()]
    from components.tables.workers import workers

    with workers(params.training) as run_job:
        for one in studies:
            first = params.tables.seeds if one.name == "table1" else params.tables.seeds[: params.tables.others]
            fill(one, params, chosen or first, run_job)
        if TASKS in names:
            sweep(params, chosen or params.tables.seeds[: params.tables.others], run_job)


def fill(one: Study, params: Params, seeds: Sequence[int], run_job: RunJob) -> None:
    """Run what a table lacks, seed by seed, and write it."""
    from components.data.shards import read_manifest
    from components.tables.measured import Row
    from components.tables.record import record, write
    from components.tables.trials import PREPARED, Trials

    variants = one.variants(params)
    plan = {(variant.name, seed): variant.params(params, seed) for seed in seeds for variant in variants}
    data = {name: read_manifest(PREPARED / name)["digest"] for name in params.data.sources}
    trials = Trials(params, list(plan.values()), run_job)
    rows = [Row(variant.name, variant.settings, variant.row) for variant in variants]
    for number, seed in enumerate(seeds, start=1):
        for row in rows:
            print(f"{one.name}: {row.name}, seed {seed} ({trials.outlook()})", flush=True)
            row.trials.append(trials.run(plan[row.name, seed]))
        if not trials.worked and number < len(seeds):  # what was there stands in the table already
            continue
        table = record(one, rows, params=params, data=data, shown=trials.shown)
        write(TABLES, table)
        print(f"{one.name}: {number} of {len(seeds)} seeds -> {TABLES / one.name}.md. {table['order']}", flush=True)


def sweep(params: Params, seeds: Sequence[int], run_job: RunJob) -> None:
    """Run what the sweep over tasks lacks, seed by seed, and write it."""
    from components.data.shards import read_manifest
    from components.digests import digest
    from components.synthetic.plates.posed import POSED
    from components.tables.points import Scores, run_point
    from components.tables.posed_data import posed_data
    from components.tables.sweep import COUNTS, DISHES, TEST_DISHES, curves
    from components.tables.tasks import record, write
    from components.tables.trials import until

    posed = posed_data(DISHES, TEST_DISHES, params.plates.image_size, params.seed)
    asked = {n: posed.questions([one.name for one in POSED[:n]]) for n in COUNTS}
    scores = [Scores(curve) for curve in curves(params, BASE)]
    data = digest({name: read_manifest(PREPARED / name)["digest"] for name in params.data.sources})
    work, spent = len(seeds) * len(scores) * sum(COUNTS), {"tasks": 0.0, "seconds": 0.0}  # on what was not there
    for number, seed in enumerate(seeds, start=1):
        for tasks, one in product(COUNTS, scores):
            left = until(work * spent["seconds"] / spent["tasks"]) if spent["tasks"] else "the time is known later"
            print(f"{TASKS}: {tasks} at once, {one.curve.name}, seed {seed} (to do: {left})", flush=True)
            began = time.monotonic()
            point = {"params": params, "data": posed, "questions": asked[tasks], "run": run_job}
            one.add(tasks, seed, *run_point(one.curve, tasks, seed, **point))
            took, work = time.monotonic() - began, work - tasks
            if took > FOUND_WITHIN_S:
                spent = {"tasks": spent["tasks"] + tasks, "seconds": spent["seconds"] + took}
        write(TABLES, record(scores, asked, params=params, data=data))
        print(f"{TASKS}: {number} of {len(seeds)} seeds -> {TABLES / TASKS}.md", flush=True)


if __name__ == "__main__":
    stage.main(run)
