"""Questions out of a source's own annotation file, for answers made elsewhere: the readers that training data has."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

from components.data.schema import Row
from components.data.sources import reader
from components.data.sources.entry import Reject
from components.errors import UserError
from components.evaluation.published.findings import Findings
from components.params import Source


def rows_of(kind: str, path: Path, findings: Findings) -> Iterator[tuple[Row, bool]]:
    """Each image's samples and whether it has an image; of the test split, where the file declares one.

    Rows carry no image: only answers are scored.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; --annotations of {kind} is a file in it")
    spec = Source(kind=kind, path=str(path.parent), annotations=glob.escape(path.name), images=None)
    entries, rejects = [], []
    for item in reader(kind)(spec):
        (rejects if isinstance(item, Reject) else entries).append(item)
    findings.leave(
        "unreadable annotations", [f"{reject.id} ({reject.reason})" for reject in rejects], f"{path}: left out"
    )
    declared = {entry.split for entry in entries} - {None}
    if "test" in declared:
        findings.say(f"{path}: scored on its test split")
        entries = [entry for entry in entries if entry.split == "test"]
    if not entries:
        raise UserError(f"{path} holds no record of {kind} that can be read")
    for entry in entries:
        yield Row(entry.group, entry.samples), entry.image is not None
