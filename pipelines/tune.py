"""Stage `tune`, off the default path: a search over settings of stage 2 by the validation loss.

tune/best_params.yaml   the best trial as an overlay of params.yaml    tune/search.json   everything, for programs
tune/trials.csv         one row per trial                              tune/plots/        four pictures
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.files import fresh_folder, write_json, write_text
from components.locks import lock
from components.params import Params
from components.workspace import TUNE
from pipelines import stage

if TYPE_CHECKING:
    from components.search.result import Trial
    from components.search.search import Search


def run(params: Params) -> None:
    """Begin the search, or go on with it where it was killed."""
    from components.search.search import plan

    search = plan(params)
    with lock(search.setting.search):
        print_result(run_search(search, go_on=search.is_begun))


def begin(params: Params) -> dict[str, Any]:
    """Begin the search anew."""
    from components.search.search import plan

    search = plan(params)
    with lock(search.setting.search):
        return run_search(search, go_on=False)


def resume(params: Params) -> dict[str, Any]:
    """Go on with the search of these settings. UserError where there is none, or it is finished."""
    from components.search.search import DONE_FILE, plan

    search = plan(params)
    with lock(search.setting.search):
        if not search.is_begun:
            found = "is finished: see tune/" if (search.state / DONE_FILE).exists() else "was never begun"
            raise UserError(f"nothing to resume: a search with these settings {found}; begin one with: lea tune")
        return run_search(search, go_on=True)


def run_search(search: Search, go_on: bool) -> dict[str, Any]:
    """Run the trials, compare the best with the present settings, and write the result."""
    from components.search import search as searching
    from components.search.gain import gains
    from components.tracking.searches import fail_search

    params, tune = search.params, search.params.tune
    how = "going on with" if go_on else "starting"
    print(f"tune: {how} {search.setting.search}: {tune.budget.trials} trials at most, {tune.search}, {tune.scheduler}")
    with searching.ray_for(params):
        trials = searching.run(search, go_on)
        try:
            best, job = searching.finish(search, trials)
        except UserError as mistake:
            fail_search(search.setting.search, str(mistake))
            raise
    found = gains(search.default, job, resamples=params.evaluate.bootstrap, seed=params.seed)
    result = write(search, trials, best, found)
    search.end()
    return result


def write(search: Search, trials: list[Trial], best: Trial, found: dict[str, Any]) -> dict[str, Any]:
    """The files of the result; search.json, which says that the rest is whole, comes last."""
    from components.params.trees import flatten
    from components.search.importance import importances
    from components.search.plots import plots
    from components.search.result import (
        BEST_FILE,
        RESULT_FILE,
        TRIALS_FILE,
        apply_line,
        front,
        read_best,
        to_json,
        write_best,
        write_table,
    )
    from components.search.space import apply
    from components.svg import alone
    from components.tracking.searches import sync_search

    TUNE.mkdir(exist_ok=True)
    space = search.setting.space
    write_best(TUNE / BEST_FILE, best.values)
    apply(search.params, read_best(TUNE / BEST_FILE))  # what was written is a valid overlay
    write_table(TUNE / TRIALS_FILE, trials)
    strengths = importances(trials, space)
    with fresh_folder(TUNE / "plots") as folder:
        for name, svg in plots(trials, space, strengths).items():
            write_text(folder / f"{name}.svg", alone(svg))
    result = {
        "search": search.setting.search,
        "best": best.number,
        "values": best.values,
        "apply": apply_line(best.values),
        "gain": found,
        "front": [trial.number for trial in front(trials)],
        "space": [asdict(dimension) for dimension in space],
        "importance": [asdict(strength) for strength in strengths],
        "trials": [to_json(trial) for trial in trials],
    }
    write_json(TUNE / RESULT_FILE, result)
    figures = {f"{split}.{name}": value for split, row in found.items() for name, value in row.items()}
    tags = {"lea.apply": result["apply"], "lea.best": str(best.number)}
    sync_search(search.setting.search, flatten({"tune": search.setting.tree["tune"]}), figures, tags, TUNE)
    return result


def print_result(result: dict[str, Any]) -> None:
    """The trials as a table, the gain, and the line that applies the best."""
    from rich.table import Table

    from components import progress
    from components.search.result import from_json, table

    rows = table([from_json(entry) for entry in result["trials"]])
    shown = Table(*[name.replace("_", " ") for name in rows[0]])
    for row in rows:
        cells = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in row.items()}
        cells["trial"] += " *" if row["trial"] == result["best"] else ""
        shown.add_row(*cells.values())
    progress.print_table(shown, f"{result['search']} (* best; sizes in bf16)")
    for split, row in result["gain"].items():
        print(
            f"{split} loss: {row['default']:.4f} with the present settings, {row['best']:.4f} with the best; "
            f"gain {row['gain']:.4f} ({interval_of(row)})"
        )
    print(f"tune: result -> {TUNE}; the best trial's training is kept. Apply it:\n  {result['apply']}")


def interval_of(row: Mapping[str, Any]) -> str:
    return "too few images for an interval" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}, 95 %"


if __name__ == "__main__":
    stage.main(run)
