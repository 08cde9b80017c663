"""A model card and `.eval_results` for the Hugging Face hub: what its pages and leaderboard tools read of a model.

Format: https://huggingface.co/docs/hub/eval-results. An entry's dataset must be a benchmark that the hub knows before
a leaderboard takes it; test splits of one's own are named `local/BENCHMARK` and say so in their notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.files import write_text
from components.report.figures import COUNTS, figure
from components.report.headline import Headline
from components.report.inputs import Inputs
from components.report.origin import ended
from components.report.results import OURS

FOLDER = "hub"  # in the report's folder
RESULTS = Path(".eval_results") / "local_enhanced_adapters.yaml"


def write_hub(folder: Path, trained: str, headline: Headline, inputs: Inputs, data_digest: str) -> None:
    """Write README.md (the model card) and the results into `folder`/hub."""
    entries = eval_results(inputs, data_digest)
    (folder / FOLDER / RESULTS.parent).mkdir(parents=True)
    write_text(folder / FOLDER / RESULTS, yaml.safe_dump(entries, sort_keys=False, allow_unicode=True))
    write_text(folder / FOLDER / "README.md", card(trained, headline, inputs.metrics))


def eval_results(inputs: Inputs, data_digest: str) -> list[dict[str, Any]]:
    """One entry for each score of the fine-tuned model, in the printed unit; the date is that of its training."""
    date, entries = ended(inputs.logs.values()), []
    benchmarks = {
        item["task"]: item["benchmark"] for one in inputs.samples for item in one["items"] if "benchmark" in item
    }
    for task, scores in inputs.metrics.get(OURS, {}).items():
        number = inputs.asked.get(OURS, {}).get(task)
        said = [f"{number} question{'s' * (number > 1)}"] if number else []
        said += [f"data {data_digest[:12]}"] if data_digest else []
        notes = ", ".join(["test data of this run, not a dataset of the hub", *said])
        for metric, value in scores.items():
            if metric in COUNTS:
                continue
            printed = figure(f"{task}.{metric}")
            entry: dict[str, Any] = {
                "dataset": {"id": f"local/{benchmarks.get(task, task)}", "task_id": f"{task}_{metric}"},
                "value": round(value * printed.factor, 4),
            }
            entries.append(entry | ({"date": f"{date:%Y-%m-%dT%H:%M:%SZ}"} if date else {}) | {"notes": notes})
    return entries


def card(trained: str, headline: Headline, metrics: Mapping[str, Any]) -> str:
    """Front matter and a page that says what the model is, what it scores and what is not known."""
    meta = {"library_name": "peft", "tags": ["vision-language", "adapter", "local-enhanced-adapters"]}
    lines = [
        "---",
        yaml.safe_dump(meta, sort_keys=False).strip(),
        "---",
        "",
        "# Adapter made with Local-Enhanced Adapters",
        "",
        trained,
        "",
        f"{headline.claim}.",
        "",
        *(f"- {line}" for line in headline.evidence),
        "",
        "| task | metric | score |",
        "|---|---|---:|",
    ]
    for task, scores in metrics.get(OURS, {}).items():
        for metric, value in scores.items():
            if metric not in COUNTS:
                printed = figure(f"{task}.{metric}")
                lines.append(f"| {task} | {printed.name} | {printed.text(value)} |")
    lines += ["", "The scores in `.eval_results` are the same; report.html has intervals, curves and what is assumed."]
    return "\n".join(lines).replace("<", "&lt;") + "\n"
