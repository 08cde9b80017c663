"""Stage `splits`: data/prepared/* -> data/splits/assignments.parquet (source, row, split) and summary.json.

Also pretrain.json and finetune.json, digests of the data that each of these stages reads: DVC runs them again when
their own sources change, not when any does.
"""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
from rich.table import Table

from components.data.shards import PreparedRows
from components.files import fresh_folder, write_json
from components.params import Params
from components.prepare.splits import all_declare_train, assign, fingerprint
from components.progress import print_table
from components.workspace import ASSIGNMENTS, PREPARED, SPLITS, SPLITS_SUMMARY
from pipelines import stage


def run(params: Params) -> None:
    prepared = {source: PreparedRows(PREPARED / source) for source in params.data.sources}
    table, summary = assign(prepared, params.data.splits, params.seed)
    with fresh_folder(SPLITS) as folder:
        pq.write_table(table, folder / ASSIGNMENTS.name, compression="zstd")
        write_json(folder / SPLITS_SUMMARY.name, summary)
        for stage_name, recipe in (("pretrain", params.pretrain), ("finetune", params.finetune)):
            write_json(folder / f"{stage_name}.json", fingerprint(prepared, table, recipe.sources))
    print_table(_table(summary), "samples by task")
    if all_declare_train(rows.index for rows in prepared.values()):
        print("splits: every row declares train, which names no test; the rows are divided by data.splits")


def _table(summary: dict[str, Any]) -> Table:
    table = Table("source", "split")
    counted = sorted({name for splits in summary.values() for counts in splits.values() for name in counts} - {"rows"})
    for name in ("rows", *counted):
        table.add_column(name, justify="right")
    for source, splits in summary.items():
        for split, counts in splits.items():
            table.add_row(source, split, *(str(counts.get(name, "")) for name in ("rows", *counted)))
        table.add_section()
    return table


if __name__ == "__main__":
    stage.main(run, tasks="after")
