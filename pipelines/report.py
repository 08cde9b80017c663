"""Stage `report`: everything that was measured -> report/report.html and report.md, kept with the tracked run too."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from components.digests import digest
from components.errors import UserError
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
    try:
        known = write(params)
    except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError):  # of a file in another form
        changed = changed_inputs()
        if not changed:
            raise
        raise UserError(f"{', '.join(changed)}: changed since a stage wrote it; run: dvc repro report") from None
    if known.run:
        send_report(known.run, [REPORT / "report.html", REPORT / "report.md"])
    print(f"report: {REPORT / 'report.html'}, {REPORT / 'report.md'}")


def write(params: Params) -> ThisRun:
    inputs = read_inputs(ROOT)
    known = this_run(params, inputs)
    with fresh_folder(REPORT) as folder:
        write_report(inputs, known, folder)
    return known


def changed_inputs() -> list[str]:
    """Files of earlier stages that are not as DVC knows them; empty where DVC cannot say."""
    command = [sys.executable, "-m", "dvc", "status", "--json", "report"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        found = json.loads(done.stdout).get("report", [])
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
    changed = {path for entry in found if isinstance(entry, dict) for path in entry.get("changed deps", {})}
    return sorted(path for path in changed if path.split("/")[0] not in ("components", "pipelines"))


def this_run(params: Params, inputs: Inputs) -> ThisRun:
    """What this project can measure, and where this run's figures come from."""
    return ThisRun(
        params=params,
        metrics=inputs.metrics,
        profiles={name: profiles.overlay(name) for name in profiles.names()},
        benchmarks=frozenset(BENCHMARKS | PUBLISHED | JUDGED),
        times=inputs.times,
        tables=inputs.tables,
        commit=commit(),
        machine=machine(),
        run=str((inputs.model or {}).get("run", "")),
        params_digest=digest(params.model_dump()),
        data_digest=digest({name: manifest["digest"] for name, manifest in inputs.manifests.items()}),
    )


def commit(root: Path = ROOT) -> str:
    """The code's commit and whether files differ from it; empty without git."""
    command = [
        "git",
        "describe",
        "--always",
        "--abbrev=12",
        "--exclude=*",
        "--dirty= with changes that are not committed",
    ]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):  # a container without git
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine() -> str:
    """Processor and number of cores, as this system names them."""
    name = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.is_file():
        models = [
            line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")
        ]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores"


if __name__ == "__main__":
    stage.main(run)
