"""How much sooner does ASHA reach what plain random search reaches? Prints a table, writes JSON.

    python -m benchmarks.search --seeds 3 --trials 4

Run in a workspace in which `dvc repro pretrain` has been done. For each seed, random search trains `--trials` points of
params.yaml's space to their end; then ASHA gets the same points first, more after them, and as much time as random
search took. Each begins with an empty home folder, so that no trial finds its training done. The score to reach is
the worse of both ends: the loss that both reach; a figure is minutes from the search's first start to the first
report at or below it. Reports of ASHA's that lie between a trial's ends count as random search's do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.params import Params, load_params
from components.search import search as searching
from components.search.result import Trial

MORE = 4  # times as many trials as random search's that ASHA may begin


def searched(params: Params, scheduler: str, seed: int, trials: int, hours: float) -> tuple[list[Trial], float]:
    """A whole search in a home folder of its own, and the hours that it took."""
    budget = params.tune.budget.model_copy(update={"trials": trials, "hours": hours})
    changes = {"search": "random", "scheduler": scheduler, "seed": seed, "budget": budget}
    changed = params.model_copy(update={"tune": params.tune.model_copy(update=changes)})
    before = os.environ.get("LEA_HOME")
    with tempfile.TemporaryDirectory(prefix="lea-search-") as folder:
        os.environ["LEA_HOME"] = folder
        try:
            search = searching.plan(changed)
            with searching.ray_for(search.params):
                since = time.monotonic()
                found = searching.run(search, go_on=False)
                return found, (time.monotonic() - since) / 3600
        finally:
            os.environ.pop("LEA_HOME")
            if before is not None:
                os.environ["LEA_HOME"] = before


def minutes_to(trials: Sequence[Trial], loss: float) -> float:
    """Minutes from the search's start to the first report that is no worse than `loss`."""
    return min(point[2] for trial in trials for point in trial.curve if point[1] <= loss) / 60


def lowest(trials: Sequence[Trial]) -> float:
    return min(point[1] for trial in trials for point in trial.curve)


def compare(params: Params, seed: int, trials: int) -> dict[str, Any]:
    alone, hours = searched(params, "none", seed, trials, params.tune.budget.hours)
    halved, _ = searched(params, "asha", seed, MORE * trials, hours)
    target = max(lowest(alone), lowest(halved))
    return {
        "seed": seed,
        "minutes": 60 * hours,
        "target": target,
        "random": {"trials": len(alone), "lowest": lowest(alone), "minutes_to_target": minutes_to(alone, target)},
        "asha": {"trials": len(halved), "lowest": lowest(halved), "minutes_to_target": minutes_to(halved, target)},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'seed':<6}{'search':<9}{'trials':>7}{'lowest loss':>13}{'minutes to both losses':>25}"]
    for row in rows:
        for name in ("random", "asha"):
            one = row[name]
            lines.append(
                f"{row['seed']:<6}{name:<9}{one['trials']:>7}{one['lowest']:>13.4f}{one['minutes_to_target']:>25.2f}"
            )
    ratios = [row["asha"]["minutes_to_target"] / row["random"]["minutes_to_target"] for row in rows]
    lines.append(f"ASHA's time over random's: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=4, help="of random search (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/search.json"))
    arguments = parser.parse_args()
    params, rows = load_params(), []
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(1, arguments.seeds + 1):
        rows.append(compare(params, seed, arguments.trials))
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
