"""`lea check`: run the checks of a source, or of any LLaVA-format JSON, without writing shards."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

SUMMARY = "check a source of data, or any LLaVA-format JSON"
SHOWN = 20  # rejects that are named on the screen


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="SOURCE|FILE", help="a source of params.yaml, or a LLaVA-format JSON file")
    parser.add_argument("--images", help="folder, zip or tar of its images (default: the source's, the file's folder)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every rejected record")


def run(arguments: argparse.Namespace) -> None:
    from components.errors import UserError
    from components.params import load_params
    from components.prepare.dry_run import check_source, named_source
    from components.prepare.unseen import unseen_by_dvc
    from components.progress import Bar, print_table
    from pipelines.prepare import TOKENIZER, records_table, unseen_note

    data = load_params().data
    spec = named_source(arguments.target, arguments.images, data.sources)
    tokenizer = TOKENIZER.resolve() if TOKENIZER.is_file() else None
    with Bar("check", None) as bar:
        report = check_source(arguments.target, spec, data, tokenizer, bar.at)
    for place in unseen_by_dvc(spec) if arguments.target in data.sources and not arguments.images else ():
        print(f"note: {unseen_note(arguments.target, place)}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report.plain()))
    else:
        summary = report.counts.summary()
        print_table(records_table(summary), f"{report.name}: {summary['rows']} rows, {summary['images']} images")
        _tell_rejects(report.rejects)
        if not arguments.images and any(one.reason == "image_missing" for one in report.rejects):
            place = spec.images if isinstance(spec.images, str) else "."
            where = f"data.sources.{arguments.target}.images" if arguments.target in data.sources else "--images"
            print(f"looked for images in {Path(spec.path, place)}; name another folder or archive with {where}")
    if report.problem:
        raise UserError(report.problem)
    if not arguments.json:
        kept, left_out = report.counts.kept, report.counts.rejected
        within = f"; {left_out} left out, within data.max_rejected {data.max_rejected:g}" if left_out else ""
        print(f"{report.name}: {kept} of {kept + left_out} samples can be used{within}")


def _tell_rejects(rejects: list) -> None:
    from rich.markup import escape
    from rich.table import Table

    from components.progress import print_table

    if not rejects:
        return
    table = Table("id", "reason", "detail")
    for one in rejects[:SHOWN]:
        table.add_row(*(escape(_printable(text)) for text in (one.id, one.reason, one.detail)))
    more = f", the first {SHOWN} (--json names all)" if len(rejects) > SHOWN else ""
    print_table(table, f"{len(rejects)} rejected{more}")


def _printable(text: str) -> str:
    return text[:120].encode(errors="backslashreplace").decode()
