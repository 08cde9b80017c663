"""What docs/results.md and README.md say of the tables that `make tables` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from textwrap import fill
from typing import Any

from components.report import comparisons
from components.report.figures import figure
from tools.markdown import ROOT, table

COLUMNS = (("ingredients.iou", 100), ("recipe.rouge_l", 1), ("nutrition.pmae", 1))
METHODS = ("LoRA", "LoRA-MoE top-2", "LoRA-MoE softmax", "RoDE", "Dual-LoRA", "VLoRA")
ABLATIONS = ("table3", "table4", "anchors", "ranks")
VERDICTS = {"holds": "hold", "does not hold": "do not hold", "undecided": "are undecided at this scale"}
WIDTH = 125  # of a line of README.md


def methods() -> str:
    """The compared methods without and with VCE, from tables/table1.json."""
    rows = {row["name"]: row["figures"] for row in of_table("table1")["rows"]}
    header = ("method", "ingredients IoU", "recipe ROUGE-L", "nutrition pMAE ↓", "+ VCE: IoU", "ROUGE-L", "pMAE ↓")
    return table(header, [(name, *_figures(rows[name]), *_figures(rows[f"{name} + VCE"])) for name in METHODS])


def _figures(row: Mapping[str, Any]) -> list[str]:
    """Mean ± standard deviation over seeds; the latter where there are several."""
    found = []
    for name, scale in COLUMNS:
        figure = row[name]
        mean, sd = (figure["mean"], figure["sd"]) if isinstance(figure, Mapping) else (figure, None)
        found.append(f"{scale * mean:.1f}" + (f" ± {scale * sd:.1f}" if sd is not None else ""))
    return found


def findings() -> str:
    """What follows from the tables, for README.md: against LoRA, and the paper's claims by their leading metric."""
    record = of_table("table1")
    better, worse = ([f"{name} in {', '.join(found)}" for name in METHODS[1:] if (found := _apart(record, name, good))]
                     for good in (True, False))  # fmt: skip
    lead = COLUMNS[0][0]
    highest = max(record["rows"], key=lambda row: row["figures"][lead]["mean"])["name"]
    said = [f"Better than LoRA: {'; '.join(better) or 'none'}. Worse: {'; '.join(worse) or 'none'}."]
    for verdict, word in VERDICTS.items():
        found = [_claim(claim) for claim in record["claims"] if claim["verdict"] == verdict]
        said += [f"The paper's claims that {word}, in IoU: {'; '.join(found)}."] if found else []
    verdicts = [claim["verdict"] for name in ABLATIONS for claim in of_table(name)["claims"]]
    counted = ", ".join(f"{verdicts.count(verdict)} {word}" for verdict, word in VERDICTS.items())
    said += [f"Of the {len(verdicts)} claims of its ablations: {counted}."]
    said += [f"Highest in IoU: {highest}."]
    conflicts = [claim["said"].removesuffix(".") for claim in of_table("tasks")["claims"]]
    gates = "; ".join(line for line in conflicts if line.startswith("Dual-LoRA"))
    said += [f"Right answers among 1, 2, 3, 6, 12 and 24 conflicting tasks (`make tasks`): {gates}."]
    seeds = len(record["seeds"])
    about = (
        f"`make table1`, profile `{record['profile']}`, 2 CPU cores; {record['questions']['ingredients']} held-out "
        f"pictures; {comparisons.spread(seeds)} ({seeds} seed{'s' * (seeds > 1)}). IoU: named ingredients that are "
        "true, of all that are named or true; ROUGE-L: longest common word sequence; pMAE: mean absolute error in "
        f"percent of the mean."
    )
    return (
        f"{fill(about, WIDTH, break_on_hyphens=False)}\n\n{methods()}\n\n"
        "Differences with their 95 % intervals, over seeds and pictures:\n\n"
        + "\n".join(fill(f"- {line}", WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in said)
    )


def _apart(record: Mapping[str, Any], name: str, good: bool) -> list[str]:
    """The metrics in which a method is better (worse) than LoRA by more than the interval."""
    gaps = {metric: _gap(metric, record["differences"][f"{metric}: {name} - LoRA"]) for metric, _ in COLUMNS}
    return [f"{figure(metric).name} {gap.text}" for metric, gap in gaps.items() if gap.good is good]


def _claim(claim: Mapping[str, Any]) -> str:
    metric = next(iter(claim["differences"]))
    return f"{claim['claim']} {_gap(metric, claim['differences'][metric]).text}"


def _gap(metric: str, entry: Mapping[str, float]) -> comparisons.Gap:
    return comparisons.gap(entry, figure(metric))


def _seeds(record: Mapping[str, Any]) -> str:
    return f"seed{'s' * (len(record['seeds']) > 1)} {', '.join(map(str, record['seeds']))}"


def of_table(name: str) -> Any:
    return json.loads((ROOT / f"tables/{name}.json").read_text(encoding="utf-8"))


def of_methods() -> str:
    record = of_table("table1")
    seeds = ", ".join(str(seed) for seed in record["seeds"])
    asked = ", ".join(f"{number} {task}" for task, number in record["questions"].items())
    claims = "\n".join(f"- {claim['said']}" for claim in record["claims"])
    return (
        f'## The methods beside each other\n\n`make table1 SEEDS="{seeds.replace(",", "")}"`, profile '
        f"`{record['profile']}`, test questions: {asked}; mean ± standard deviation over seeds."
        f"\n\n{methods()}\n\n{record['order']}\n\nThe paper's claims, at this scale:\n\n{claims}\n\nAll columns "
        "and the 95 % intervals of the differences: `tables/table1.md`."
    )


def of_tasks() -> str:
    record = of_table("tasks")
    said = "\n".join(f"- {claim['said']}" for claim in record["claims"])
    return (
        f"## By the number of tasks\n\n`make tasks`, profile `{record['profile']}`, {_seeds(record)}. {record['order']}"
        f"\n\n{said}\n\nThe curves: `tables/tasks.md`."
    )


def of_forms() -> str:
    """As printed beside as released, from tables/forms.json."""
    record = of_table("forms")
    rows = [(row["name"], *_figures(row["figures"])) for row in record["rows"]]
    header = ("form", "ingredients IoU", "recipe ROUGE-L", "nutrition pMAE ↓")
    return (
        f"## As printed and as the authors released it\n\n`make forms`, profile `{record['profile']}`, "
        f"{_seeds(record)}; without a word behind the name the form is the paper's.\n\n{table(header, rows)}\n\n"
        "All columns and the 95 % intervals of the differences: `tables/forms.md`."
    )


def of_ablations() -> str:
    """The paper's ablations, from tables/{table3,table4,anchors,ranks}.json."""
    parts = [
        "## The paper's ablations\n\nMean ± standard deviation over seeds. All columns and the differences with their "
        "95 % intervals: `tables/`."
    ]
    for name in ABLATIONS:
        record = of_table(name)
        rows = [(row["name"], *_figures(row["figures"])) for row in record["rows"]]
        claims = "\n".join(f"- {claim['said']}" for claim in record["claims"])
        header = ("", "ingredients IoU", "recipe ROUGE-L", "nutrition pMAE ↓")
        parts.append(
            f"### {record['title']}\n\n`make {name}`, profile `{record['profile']}`, {_seeds(record)}.\n\n"
            f"{table(header, rows)}\n\n{claims}"
        )
    return "\n\n".join(parts)
