"""A study's results as tables/NAME.json, which the report reads, and NAME.md, which people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.digests import digest
from components.evaluation.question import Name
from components.files import write_json, write_text
from components.params import Params
from components.report.comparisons import cell, gap, made_by, metrics_of, spread
from components.report.figures import figure
from components.report.ledger import PublishedTable, read_published
from components.tables.chance import TASK, at_chance
from components.tables.claims import claims_of, verdicts
from components.tables.measured import COMPARED, Row, differences
from components.tables.order import agreements, sentence
from components.tables.variants import Study


def record(
    study: Study, rows: Sequence[Row], *, params: Params, data: Mapping[str, str], shown: Sequence[Name]
) -> dict[str, Any]:
    """The whole table as plain values.

    data: digests of the sources' manifests. shown: the questions whose answers the report shows side by side.
    """
    drawn = {"resamples": params.evaluate.bootstrap, "seed": params.seed}
    left_out = at_chance(rows, **drawn)
    found = {name: entry for name, entry in differences(rows, **drawn).items() if _counts(name, left_out)}
    metrics = [metric for metric in COMPARED if _counts(metric, left_out)]
    lines = [
        {
            "name": row.name,
            "settings": dict(row.settings),
            "published": row.published,
            "adapter_bytes": row.trials[0].adapter_bytes,
            "runs": [{"seed": trial.seed, "run": trial.run} for trial in row.trials],
            "figures": {name: entry for name, entry in row.figures().items() if _counts(name, left_out)},
        }
        for row in rows
    ]
    return {
        "table": study.name,
        "title": study.title,
        "profile": params.profile,
        "version": version("local-enhanced-adapters"),
        "published": [study.published, *study.also],
        "seeds": [trial.seed for trial in rows[0].trials],
        "questions": _questions(rows[0]),
        "params": params.model_dump(),
        "params_digest": digest(params.model_dump()),
        "data_digest": digest(data),
        "rows": lines,
        "differences": found,
        "order": order(study, lines, found),
        "claims": verdicts(claims_of(study.name, rows), rows, metrics, **drawn),
        "left_out": left_out,
        "answers": _answers(rows, shown),
    }


def _counts(metric: str, left_out: str | None) -> bool:
    """Whether a metric is printed: not one of multiple choice where that is at chance."""
    return left_out is None or not metric.startswith(f"{TASK}.")


def _questions(row: Row) -> dict[str, int]:
    tasks = [answer.question.task for answer in row.trials[0].answers]
    return {task: tasks.count(task) for task in dict.fromkeys(tasks)}


def _answers(rows: Sequence[Row], shown: Sequence[Name]) -> dict[str, dict[str, str]]:
    """`benchmark/source/id` -> variant -> what its first seed answered."""
    wanted: dict[str, dict[str, str]] = {"/".join(name): {} for name in shown}
    for row in rows:
        for answer in row.trials[0].answers:
            name = "/".join(answer.question.name)
            if name in wanted:
                wanted[name][row.name] = answer.text
    return {name: answers for name, answers in wanted.items() if answers}


def order(study: Study, lines: Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, float]]) -> str:
    """The sentence on the paper's order, over every published table that these runs repeat."""
    tables = {table.id: table for table in read_published()}
    alike = level = pairs = 0
    for name in (study.published, *study.also):
        table = tables[name]
        columns = [(place, column[2], column[4] == "high") for place, column in enumerate(table.columns) if column[2]]
        printed, here = {}, {}
        for row in lines:
            values = published_values(table, row["published"])
            if values:
                printed[row["name"]] = [values[place] for place, _, _ in columns]
                here[row["name"]] = [row["figures"].get(metric, {}).get("mean") for _, metric, _ in columns]
        counted = agreements(printed, here, len(columns))
        alike, level, pairs = (sum(both) for both in zip((alike, level, pairs), counted, strict=True))
    first, others = lines[0], lines[1:]
    lead = next((name for name in COMPARED if name in first["figures"]), COMPARED[0])
    gaps = {row["name"]: found.get(f"{lead}: {row['name']} - {first['name']}") for row in others}
    better = [name for name, one in gaps.items() if one and one["low"] > 0]
    worse = [name for name, one in gaps.items() if one and one["high"] < 0]
    return sentence(alike, level, pairs, len(first["runs"]), better, worse, figure(lead).name)


def published_values(table: PublishedTable, row: str | None) -> list[float | None] | None:
    return next((list(printed.values) for printed in table.rows if printed.name == row), None)


def write(folder: Path, table: Mapping[str, Any]) -> None:
    write_text(folder / f"{table['table']}.md", markdown(table))
    write_json(folder / f"{table['table']}.json", table)


def markdown(table: Mapping[str, Any]) -> str:
    names = metrics_of(table)
    printed = [figure(name) for name in names]
    heads = [
        f"{name.partition('.')[0]} {one.name}{'' if one.higher_is_better else ' ↓'}"
        for name, one in zip(names, printed, strict=True)
    ]
    lines = [
        f"# {table['title']}: profile {table['profile']}",
        "",
        *_bars(["", *heads]),
        *(
            _bar([row["name"], *(cell(row["figures"].get(n), p) for n, p in zip(names, printed, strict=True))])
            for row in table["rows"]
        ),
        "",
        f"{table['order']}",
        "",
        f"Seeds of training: {', '.join(map(str, table['seeds']))}; {spread(len(table['seeds']))}. "
        f"Test questions: {', '.join(f'{count} {task}' for task, count in table['questions'].items())}. "
        f"Params {table['params_digest'][:12]}, data {table['data_digest'][:12]}; {made_by(table)}.",
        "",
        *([table["left_out"], ""] if table["left_out"] else []),
        *_claims(table["claims"]),
        f"## Differences to {table['rows'][0]['name']} (95 % paired bootstrap over seeds and test images)",
        "",
    ]
    compared = [name for name in COMPARED if any(key.startswith(f"{name}: ") for key in table["differences"])]
    first = table["rows"][0]["name"]
    lines += _bars(["", *(f"{name.partition('.')[0]} {figure(name).name}" for name in compared)])
    for row in table["rows"][1:]:
        entries = [table["differences"].get(f"{name}: {row['name']} - {first}") for name in compared]
        lines.append(
            _bar([row["name"], *(gap(e, figure(n)).text if e else "–" for e, n in zip(entries, compared, strict=True))])
        )
    lines += ["", "## Runs", "", *_bars(["", "seed", "run"])]
    lines += [_bar([row["name"], str(run["seed"]), f"`{run['run']}`"]) for row in table["rows"] for run in row["runs"]]
    return "\n".join(lines) + "\n"


def _claims(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each claim of the paper: whether it holds here, by the intervals of the differences."""
    if not claims:
        return []
    return ["## The paper's claims, at this scale", "", *(f"- {claim['said']}" for claim in claims), ""]


def _bars(cells: Sequence[str]) -> list[str]:
    return [_bar(cells), _bar(["---", *["---:"] * (len(cells) - 1)])]


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
