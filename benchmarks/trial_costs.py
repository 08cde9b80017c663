"""What does a trial cost in a warm group, beside the same trial in workers of its own? Prints a table, writes JSON.

    python -m benchmarks.trial_costs --repeats 3

Run in a workspace in which `dvc repro pretrain` has been done. In turns, in one Ray: stage 2 of params.yaml in workers
that Ray Train starts for it alone, as `dvc repro` runs it; the same in a warm group; and there up to its first report,
where a search stops the worse trials. Every run has a fresh folder. The group's first run, which starts its processes,
is shown apart. Weights of both ways are compared: the last column says whether they are equal to the bit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.digests import file_digest
from components.params import Params, load_params
from components.training.job import Job, Validation
from components.training.launcher import fit, ray_session
from components.training.stage import make_job
from components.training.warm import Group
from components.workspace import PRETRAIN


def seconds(work: Callable[[], object]) -> float:
    since = time.monotonic()
    work()
    return time.monotonic() - since


def stop_at_first_report(group: Group, job: Job) -> None:
    with closing(group.run(job)) as steps:
        next(steps)


def measured(params: Params, repeats: int) -> dict[str, Any]:
    plain = make_job("finetune", params, params.finetune, params.adapter, PRETRAIN)
    watched = Validation(params.tune.report_every_steps, params.tune.validation_samples)
    found: dict[str, Any] = {"alone": [], "warm": [], "stopped": [], "equal": []}
    both = params.training.model_copy(update={"workers": 2 * params.training.workers})  # the idle group keeps its CPUs
    with tempfile.TemporaryDirectory(prefix="lea-trials-") as folder, ray_session(both):

        def job(name: str) -> Job:
            return replace(plain, folder=Path(folder) / name, validation=watched)

        with closing(Group({"CPU": 1})) as group:
            found["first"] = seconds(lambda: group.fit(job("first")))
            for number in range(repeats):
                alone, warm, stopped = (job(f"{name}-{number}") for name in ("alone", "warm", "stopped"))
                found["alone"].append(seconds(lambda job=alone: fit(job)))
                found["warm"].append(seconds(lambda job=warm: group.fit(job)))
                found["stopped"].append(seconds(lambda job=stopped: stop_at_first_report(group, job)))
                found["equal"].append(weights(alone) == weights(warm))
    return found


def weights(job: Job) -> dict[str, str]:
    parts = job.folder / "parts"
    return {str(file.relative_to(parts)): file_digest(file) for file in sorted(parts.rglob("*.safetensors"))}


def table(found: dict[str, Any]) -> str:
    lines = [f"{'run':<34}{'seconds (median)':>18}{'lowest':>9}{'highest':>9}"]
    for name, what in (
        ("alone", "in workers of its own"),
        ("warm", "in a warm group"),
        ("stopped", "to its first report"),
    ):
        times = found[name]
        lines.append(f"{what:<34}{statistics.median(times):>18.1f}{min(times):>9.1f}{max(times):>9.1f}")
    ratios = [one / other for one, other in zip(found["alone"], found["warm"], strict=True)]
    lines.append(f"the group's first run: {found['first']:.1f} s")
    lines.append(f"alone over warm: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    lines.append(f"weights equal to the bit: {sum(found['equal'])} of {len(found['equal'])}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/trial_costs.json"))
    arguments = parser.parse_args()
    found = measured(load_params(), arguments.repeats)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
