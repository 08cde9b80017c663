"""Stage `prepare`, once for each source: data/raw -> data/prepared/<source>. Needs the source's name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from components.errors import UserError
from components.params import Params
from components.prepare.source import prepare_source
from components.prepare.unseen import unseen_by_dvc
from components.progress import print_table
from components.workspace import PREPARED, TOKENIZER
from pipelines import stage


def run(params: Params, name: str = "") -> None:
    if name not in params.data.sources:
        known = ", ".join(params.data.sources)
        if not name:
            raise UserError(f"prepare: name one of data.sources: {known}")
        raise UserError(f"data.sources has no {name!r}; it has {known}")
    for place in unseen_by_dvc(params.data.sources[name]):
        print(f"note: {unseen_note(name, place)}", file=sys.stderr)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)

        def show(kept: int, rejected: int) -> None:
            bar.update(task, completed=kept + rejected)

        manifest = prepare_source(name, params.data.sources[name], params.data, TOKENIZER, PREPARED / name, show)
    print_table(records_table(manifest), f"{name}: {manifest['rows']} rows, {manifest['images']} images")
    if manifest["records"]["rejected"]:
        print(f"what was rejected, and why: {PREPARED / name / 'rejects.parquet'}")


def unseen_note(name: str, place: Path) -> str:
    return (
        f"{place} lies outside data.sources.{name}.path: DVC neither keeps it nor sees when it changes; "
        f"put it there, not as a link to a folder, or run after a change: dvc repro -s -f prepare@{name}"
    )


def records_table(manifest: dict[str, Any]) -> Table:
    records = manifest["records"]
    table = Table()
    table.add_column("samples")  # RecordCounts counts records by their samples
    table.add_column("number", justify="right")
    table.add_row("kept", str(records["kept"]), style="green")
    for task, count in manifest["tasks"].items():
        table.add_row(f"  {task}", str(count), style="dim")
    table.add_row("rejected", str(records["rejected"]), style="red" if records["rejected"] else "")
    for reason, count in records["reasons"].items():
        table.add_row(f"  {reason}", str(count), style="dim")
    table.add_section()
    table.add_row("read", str(records["read"]))
    for split, count in manifest["declared_splits"].items():
        if split != "none":
            table.add_row(f"  declared {split}", str(count), style="dim")
    if other := manifest["images_under_another_ending"]:
        table.add_row("images under another ending", str(other), style="yellow")  # 1.png for 1.jpg: perhaps its mask
    return table


if __name__ == "__main__":
    stage.main(run)
