"""Stage `report`: everything that was measured -> report/report.html and report.md, kept with the tracked run too."""

from __future__ import annotations

from pathlib import Path

from components.digests import digest
from components.evaluation.benchmarks import BENCHMARKS, JUDGED, PUBLISHED
from components.files import fresh_folder
from components.params import Params, profiles
from components.report.inputs import Inputs, read_inputs
from components.report.ledger import ThisRun
from components.report.page import write_report
from components.tracking.runs import send_report
from components.workspace import REPORT
from pipelines import stage

ROOT = Path()


def run(params: Params) -> None:
    inputs = read_inputs(ROOT)
    known = this_run(params, inputs)
    with fresh_folder(REPORT) as folder:
        write_report(inputs, known, folder)
    if known.run:
        send_report(known.run, [REPORT / "report.html", REPORT / "report.md"])
    print(f"report: {REPORT / 'report.html'}, {REPORT / 'report.md'}")


def this_run(params: Params, inputs: Inputs) -> ThisRun:
    """What this project can measure, and where this run's figures come from."""
    return ThisRun(
        params=params,
        metrics=inputs.metrics,
        profiles={name: profiles.overlay(name) for name in profiles.names()},
        benchmarks=frozenset(BENCHMARKS | PUBLISHED | JUDGED),
        times=inputs.times,
        tables=inputs.tables,
        run=str((inputs.model or {}).get("run", "")),
        params_digest=digest(params.model_dump()),
        data_digest=digest({name: manifest["digest"] for name, manifest in inputs.manifests.items()}),
    )


if __name__ == "__main__":
    stage.main(run)
