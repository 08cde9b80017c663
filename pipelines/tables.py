"""The paper's tables on the settings of params.yaml: `python -m pipelines.tables [TABLE ...] [SEED ...]`.

Every variant of a table is trained and asked with every seed of `tables.seeds`; base, prepared data and splits are
those of the workspace, and variants that agree on stage 1 share it. A table is written after each seed that is
through. Training runs and answers lie in run state under their digests: a killed command goes on where it was, and
what another table or `dvc repro` has trained already is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from components.params import Params
from components.tables.variants import STUDIES, Study, study
from components.workspace import TABLES
from pipelines import stage

if TYPE_CHECKING:
    from components.training.job import Job


def run(params: Params, *wanted: str) -> None:
    studies = [study(name) for name in wanted if not name.isdigit()] or list(STUDIES.values())
    seeds = [int(name) for name in wanted if name.isdigit()] or list(params.tables.seeds)
    with ExitStack() as opened:
        for one in studies:
            fill(one, params, seeds, opened)


def fill(one: Study, params: Params, seeds: Sequence[int], opened: ExitStack) -> None:
    """Run what a table lacks, seed by seed, and write it. Ray starts with the first run that needs it, once."""
    from components.data.shards import read_manifest
    from components.tables.measured import Row
    from components.tables.record import record, write
    from components.tables.trials import PREPARED, Trials
    from components.training.launcher import fit, ray_session

    def run_job(job: Job, on_checkpoint: Callable[[int], object]) -> None:
        import ray

        if not ray.is_initialized():
            opened.enter_context(ray_session(params.training))
        fit(job, on_checkpoint)

    variants = one.variants(params)
    plan = {(variant.name, seed): variant.params(params, seed) for seed in seeds for variant in variants}
    data = {name: read_manifest(PREPARED / name)["digest"] for name in params.data.sources}
    trials = Trials(params, list(plan.values()), run_job)
    rows = [Row(variant.name, variant.settings, variant.row) for variant in variants]
    for number, seed in enumerate(seeds, start=1):
        for row in rows:
            print(f"{one.name}: {row.name}, seed {seed} ({trials.outlook()})", flush=True)
            row.trials.append(trials.run(plan[row.name, seed]))
        table = record(one, rows, params=params, data=data, shown=trials.shown)
        write(TABLES, table)
        print(f"{one.name}: {number} of {len(seeds)} seeds -> {TABLES / one.name}.md. {table['order']}", flush=True)


if __name__ == "__main__":
    stage.main(run)
