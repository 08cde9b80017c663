"""Questions out of a source's own annotation file, for answers made elsewhere: the readers that training data has."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from components.data.schema import Row
from components.errors import UserError
from components.evaluation.offline.findings import Findings
from components.evaluation.question import Question
from components.params import Source
from components.sources import reader
from components.sources.entry import Reject


def questions_of(
    kind: str, path: Path, split: str | None, findings: Findings, from_rows: Callable[[Iterable[Row]], list[Question]]
) -> list[Question]:
    """The questions that `from_rows` makes of a file's records; of `split` (None: test) where the file declares splits.

    They carry their images' names, not the images.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; --annotations of {kind} is a file in it")
    spec = Source(kind=kind, path=str(path.parent), annotations=glob.escape(path.name), images=None)
    entries, rejects = [], []
    for item in reader(kind)(spec):
        (rejects if isinstance(item, Reject) else entries).append(item)
    findings.count(
        "unreadable annotations", [f"{reject.id} ({reject.reason})" for reject in rejects], f"{path}: left out"
    )
    declared = {entry.split for entry in entries} - {None}
    wanted = split or "test"
    if wanted in declared:
        findings.note(f"{path}: only its {wanted} split counts")
        entries = [entry for entry in entries if entry.split == wanted]
    elif declared or split:
        known = ", ".join(sorted(map(str, declared))) or "none at all"
        raise UserError(f"{path} declares no {wanted} split; it declares {known}")
    if not entries:
        raise UserError(f"{path} holds no record of {kind} that can be read")
    return [
        replace(question, image_name=entry.image)
        for entry in entries
        for question in from_rows([Row(entry.group, entry.samples)])
    ]
