"""Stage `prepare`, once for each source: data/raw -> data/prepared/<source>. Needs the source's name."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from components.errors import UserError
from components.params import Params
from components.prepare.source import prepare_source
from components.progress import print_table
from components.workspace import PREPARED, TOKENIZER
from pipelines import stage


def run(params: Params, name: str = "") -> None:
    if name not in params.data.sources:
        known = ", ".join(params.data.sources)
        if not name:
            raise UserError(f"prepare: name one of data.sources: {known}")
        raise UserError(f"data.sources has no {name!r}; it has {known}")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)

        def show(kept: int, rejected: int) -> None:
            bar.update(task, completed=kept + rejected)

        manifest = prepare_source(name, params.data.sources[name], params.data, TOKENIZER, PREPARED / name, show)
    print_table(records_table(manifest), f"{name}: {manifest['rows']} rows, {manifest['images']} images")
    if manifest["records"]["rejected"]:
        print(f"what was rejected, and why: {PREPARED / name / 'rejects.parquet'}")


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
    return table


if __name__ == "__main__":
    stage.main(run)
