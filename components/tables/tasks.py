"""The sweep over tasks as tables/tasks.json, in the form of the other tables, and tasks.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from components.digests import digest
from components.evaluation.bootstrap import Interval, difference
from components.evaluation.main_metric import mean
from components.evaluation.question import Question
from components.files import write_json, write_text
from components.params import Params
from components.report.comparisons import spread
from components.synthetic.plates.posed import POSED
from components.tables.measured import trimmed
from components.tables.points import Scores
from components.tables.resampling import over_seeds_and_images
from components.tables.sweep import COUNTS, DISHES, EQUAL

TABLE = "tasks"
TITLE = "Dual-LoRA and mixtures of experts beside plain LoRA: right answers in percent, by the number of tasks"
FIRST = POSED[0]  # the task that is posed at every point
ALL, ONE = "all", FIRST.name  # questions that a figure is over
Asked = Mapping[int, Sequence[Question]]  # by number of tasks


def record(scores: Sequence[Scores], asked: Asked, *, params: Params, data: str) -> dict[str, Any]:
    """The whole table as plain values. data: digest of the sources' manifests."""
    drawn = {"resamples": params.evaluate.bootstrap, "seed": params.seed}
    counts = [count for count in COUNTS if count in scores[0].of]
    found = {
        _name(n, one, other): vars(gap(one, other, n, asked[n], **drawn)) | {"questions": len(asked[n])}
        for one, other in compared(scores)
        for n in counts
    }
    return {
        "table": TABLE,
        "title": TITLE,
        "profile": params.profile,
        "published": [],
        "seeds": list(scores[0].of[counts[0]]),
        "questions": {f"with {_tasks(n)}": len(asked[n]) for n in counts},
        "params": params.model_dump(),
        "params_digest": digest(params.model_dump()),
        "data_digest": data,
        "rows": [
            {
                "name": one.curve.name,
                "settings": dict(one.curve.settings),
                "published": None,
                "adapter_parameters": one.curve.parameters,
                "adapter_bytes": 2 * one.curve.parameters,
                "runs": one.runs,
                "figures": figures(one, counts, asked, **drawn),
            }
            for one in scores
        ],
        "differences": found,
        "order": collapse(scores[0], counts, asked),
        "claims": [{"said": said} for said in sentences(scores, counts, found)],
        "left_out": None,
        "answers": {},
    }


def _tasks(count: int) -> str:
    return f"{count} task{'s' * (count > 1)}"


def _name(count: int, one: Scores, other: Scores) -> str:
    return f"{ALL}.{_tasks(count)}: {one.curve.name} - {other.curve.name}"


def figures(
    one: Scores, counts: Sequence[int], asked: Asked, *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """`mean`, `sd` and `values` as in other tables; `low` and `high` over seeds and photos."""
    found = {}
    for kind in (ALL, ONE):
        for count in counts:
            places = [n for n, question in enumerate(asked[count]) if kind == ALL or question.task == kind]
            percent, images = one.percent(count)[:, places], [asked[count][n].image_hash for n in places]
            interval = over_seeds_and_images(percent[:, :, None], images, mean, resamples=resamples, seed=seed)
            values = [float(value) for value in percent.mean(axis=1)]
            counted = trimmed(values)
            found[f"{kind}.{_tasks(count)}"] = {
                "mean": float(np.mean(counted)),
                "sd": float(np.std(counted, ddof=1)) if len(counted) > 1 else None,
                "values": values,
                "low": interval.low,
                "high": interval.high,
            }
    return found


def compared(scores: Sequence[Scores]) -> list[tuple[Scores, Scores]]:
    """Each method with LoRA of the same rank; those of about as many parameters as Dual-LoRA with such a LoRA."""
    plain, others = scores[0], [one for one in scores[1:] if EQUAL not in one.curve.name]
    pairs = [(one, plain) for one in others]
    equal = [one for one in scores if EQUAL in one.curve.name]
    larger = next((one for one in equal if one.curve.name.startswith("LoRA,")), None)
    if larger is not None:
        dual = [one for one in others if one.curve.name.startswith("Dual-LoRA")]
        pairs += [(one, larger) for one in [*dual, *equal] if one is not larger]
    return pairs


def gap(
    one: Scores, other: Scores, count: int, questions: Sequence[Question], *, resamples: int, seed: int
) -> Interval:
    both = np.stack([one.percent(count), other.percent(count)], axis=-1)
    images = [question.image_hash for question in questions]
    return over_seeds_and_images(both, images, difference, resamples=resamples, seed=seed)


def sentences(scores: Sequence[Scores], counts: Sequence[int], found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """For each pair that is compared: at which numbers of tasks the interval of the difference leaves out 0."""
    said = []
    for one, other in compared(scores):
        entries = {count: found[_name(count, one, other)] for count in counts}
        above = [str(n) for n, entry in entries.items() if entry["low"] is not None and entry["low"] > 0]
        below = [str(n) for n, entry in entries.items() if entry["high"] is not None and entry["high"] < 0]
        parts = [f"{word} with {', '.join(at)} tasks" for word, at in (("better", above), ("worse", below)) if at]
        verdict = "; ".join(parts) or "undecided with any number of tasks"
        said.append(f"{one.curve.name} against {other.curve.name}: {verdict}.")
    return said


def collapse(plain: Scores, counts: Sequence[int], asked: Asked) -> str:
    """Whether and where plain LoRA falls apart as tasks are added, by the one task that every point has."""
    places = {n: [place for place, one in enumerate(asked[n]) if one.task == ONE] for n in counts}
    right = {n: float(plain.percent(n)[:, places[n]].mean()) for n in counts}
    halved = [f"{few} to {many}" for few, many in pairwise(counts) if right[many] < right[few] / 2]
    steps = f"From {' and from '.join(halved)} tasks it loses more than half" if halved else "No step loses half"
    middle = [n for n in counts if n == counts[0] or n >= 6]
    listed = ", ".join(f"{right[n]:.1f} % {'when it is trained alone' if n == 1 else f'among {n}'}" for n in middle)
    return (
        "mtLoRA (arXiv 2603.01526) reports that plain LoRA collapses between 5 and 15 tasks. Here one task "
        f"is part of every mix; of its questions {plain.curve.name} answers rightly {listed}. {steps}."
    )


def write(folder: Path, table: Mapping[str, Any]) -> None:
    write_text(folder / f"{TABLE}.md", markdown(table))
    write_json(folder / f"{TABLE}.json", table)


def markdown(table: Mapping[str, Any]) -> str:
    seeds, asked = table["seeds"], ", ".join(f"{number} {name}" for name, number in table["questions"].items())
    lines = [
        f"# {table['title']}: profile {table['profile']}",
        "",
        *_section(table, ALL, "All questions (95 % interval over seeds and photos)"),
        *_section(table, ONE, f'"{FIRST.question}" alone, among so many'),
        "## What follows",
        "",
        table["order"],
        "",
        *(f"- {claim['said']}" for claim in table["claims"]),
        "",
        f"Seeds of training: {', '.join(map(str, seeds))}; {spread(len(seeds))}. {DISHES} photos in training. "
        f"Test questions: {asked}. Params {table['params_digest'][:12]}, data {table['data_digest'][:12]}.",
    ]
    return "\n".join(lines) + "\n"


def _section(table: Mapping[str, Any], kind: str, heading: str) -> list[str]:
    names = [name for name in table["rows"][0]["figures"] if name.startswith(f"{kind}.")]
    heads = ["", "parameters", *(name.partition(".")[2] for name in names)]
    rows = [
        [row["name"], str(row["adapter_parameters"]), *(_cell(row["figures"][name]) for name in names)]
        for row in table["rows"]
    ]
    bars = [f"| {' | '.join(cells)} |" for cells in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows)]
    return [f"## {heading}", "", *bars, ""]


def _cell(entry: Mapping[str, Any]) -> str:
    interval = f" ({entry['low']:.1f} to {entry['high']:.1f})" if entry["low"] is not None else ""
    return f"{entry['mean']:.1f}{interval}"
