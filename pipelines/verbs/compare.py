"""`lea compare`: two models by their answers to the same test questions."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import UserError

if TYPE_CHECKING:
    from components.evaluation.compared import Difference

SUMMARY = "two models by their answers to the same test questions, task by task"
RUN = re.compile(r"finetune-[\w.-]+|[0-9a-f]{32}")
FORMS = (
    "workspace, a version (models:/lea@champion, models:/lea/3), a run (finetune-0123456789abcdef, or MLflow's id), "
    "or an experiment, branch or commit that DVC knows"
)


@dataclass(frozen=True)
class Evaluation:
    """What was kept of one model, by the digest of the conditions it was asked under: a folder with the files."""

    name: str
    folders: Mapping[str, Path]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="RUN", help=FORMS)
    parser.add_argument("second", metavar="RUN", help="what it is compared with, in the same forms")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.evaluation.compared import compare, left_out, read_answers
    from components.params import load_params
    from components.tracking import records
    from components.workspace import ANSWERS, MEASURED

    params = load_params()
    with tempfile.TemporaryDirectory(prefix="lea-compare-") as aside:
        names = (arguments.first, arguments.second)
        found = [evaluation(name, Path(aside) / str(place)) for place, name in enumerate(names)]
        folders = same_conditions(*found)
        answers = [read_answers(folder / ANSWERS.name) for folder in folders]
        stated = [json.loads((folder / MEASURED.name).read_text(encoding="utf-8")) for folder in folders]
    lines = compare(*answers, resamples=params.evaluate.bootstrap, seed=params.seed)
    if not lines:
        raise UserError(f"{names[0]} and {names[1]} were not asked one question in common; nothing can be compared")
    alone = left_out(*answers)
    notes = records.differences(*(one["conditions"] for one in stated))
    same = stated[0]["model"] == stated[1]["model"]
    if arguments.json:
        tree = {"first": names[0], "second": names[1], "same_model": same, "conditions_differ": notes}
        print(json.dumps({**tree, "tasks": [asdict(line) for line in lines], "left_out": alone}))
        return
    if same:
        print("both names are of one model")
    if notes:
        print(f"not measured under the same conditions: {', '.join(notes)}")
    print("\n".join(table(names, lines, same=same)))
    for metric, number in alone.items():
        print(f"{metric}: none of its {number} questions was asked of both; left out")


def evaluation(name: str, aside: Path) -> Evaluation:
    """The answers that RUN names, copied into `aside` where they are not here."""
    from components.workspace import ANSWERS, MEASURED

    if not name.strip():  # DVC takes an empty revision for the workspace
        raise UserError(f"lea compare: one of the two names is empty; give {FORMS}")
    aside.mkdir()
    if name == "workspace":
        for path in (ANSWERS, MEASURED):
            if not path.is_file():
                raise UserError(f"{path} is missing; run: dvc repro evaluate")
        return Evaluation(name, {"": ANSWERS.parent})
    if name.startswith("models:") or RUN.fullmatch(name):
        return Evaluation(name, of_run(name, aside))
    return Evaluation(name, {"": of_revision(name, aside)})


def of_run(name: str, aside: Path) -> dict[str, Path]:
    """From the tracking store."""
    from components.serving.loading import find_version
    from components.tracking import answers, store
    from components.workspace import ANSWERS, MEASURED

    client = store.connect_to_read()
    with store.answering(store.tracking_uri()):
        run_id = find_version(name).run_id if name.startswith("models:") else answers.find_run(client, name)
        if not run_id:
            raise UserError(f"lea compare: the tracking store knows no run {name!r}; give {FORMS}")
        folders = answers.fetch(client, run_id, aside)
    folders = {
        key: at for key, at in folders.items() if all((at / path.name).is_file() for path in (ANSWERS, MEASURED))
    }
    if not folders:
        raise UserError(f"{name}: no answers are kept with its run; dvc repro register keeps them, with its files here")
    return folders


def of_revision(name: str, aside: Path) -> Path:
    """From DVC's cache, as a commit or an experiment left them."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError, SCMError

    from components.workspace import ANSWERS, MEASURED

    for path in (ANSWERS, MEASURED):
        try:
            with dvc.api.open(str(path), rev=name, mode="rb") as stream:
                (aside / path.name).write_bytes(stream.read())
        except (RevError, SCMError):
            raise UserError(f"lea compare: {name!r} is no revision or experiment here; give {FORMS}") from None
        except (DvcException, OSError):
            if not dvc.api.DVCFileSystem(rev=name).exists("dvc.lock"):
                raise UserError(
                    f"{name} holds no dvc.lock, so it names no results; run: git add dvc.lock && git commit"
                ) from None
            raise UserError(
                f"{name}: DVC has no {path} of it in its cache; go to it (git checkout {name}; an experiment: "
                f"dvc exp apply {name}), then run: dvc repro evaluate"
            ) from None
    return aside


def same_conditions(first: Evaluation, second: Evaluation) -> tuple[Path, Path]:
    """A folder of each: of the same conditions where there are such."""
    for key, folder in first.folders.items():
        if key and key in second.folders:
            return folder, second.folders[key]
    return next(iter(first.folders.values())), next(iter(second.folders.values()))


def table(names: Sequence[str], lines: Sequence[Difference], *, same: bool) -> list[str]:
    """The lines as columns, shares in per cent as in the report. `same`: both names are of one model."""
    head = ["metric", "first", "second", "second - first", "95 % interval", "questions", "verdict"]
    rows = [head, *(_cells(line, same=same) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    printed = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    left = {line.metric: line.left_out for line in lines if line.left_out}
    notes = [f"{name}: {count} questions of one were not asked of the other; left out" for name, count in left.items()]
    return [f"first: {names[0]}    second: {names[1]}", *printed, *notes]


def _cells(line: Difference, *, same: bool) -> list[str]:
    from components.metrics import metric

    row = metric(line.metric)
    factor = 100 if row.scale == "share" else 1
    first, second, value = (number * factor for number in (line.first, line.second, line.value))
    if line.low is None or line.high is None:
        interval, verdict = "too few questions", ""
    else:
        interval, verdict = f"{line.low * factor:+.2f} to {line.high * factor:+.2f}", "undecided"
    if line.better:
        verdict = f"{line.better} is better"
    if same and not line.value:
        verdict = "equal"
    arrow = " (lower is better)" if row.direction == "lower" else ""
    figures = [f"{first:.2f}", f"{second:.2f}", f"{value:+.2f}", interval, str(line.questions)]
    return [line.metric + arrow, *figures, verdict]
