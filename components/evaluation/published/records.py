"""Questions out of a source's own annotation file, for answers made elsewhere: the readers that training data has."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from components.data.schema import Row
from components.data.sources import reader
from components.data.sources.entry import Reject
from components.errors import UserError
from components.evaluation.published.findings import Findings
from components.evaluation.question import Question
from components.params import Source


def questions_of(
    kind: str, path: Path, split: str, findings: Findings, questions: Callable[[Iterable[Row]], list[Question]]
) -> list[Question]:
    """What `questions` asks of a file's records; of `split` alone, where the file declares it.

    They carry their images' names, not the images.
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
    if split in declared:
        findings.say(f"{path}: its {split} split is asked")
        entries = [entry for entry in entries if entry.split == split]
    elif declared and split != "test":
        raise UserError(f"{path} declares no {split} split, only {', '.join(sorted(map(str, declared)))}")
    if not entries:
        raise UserError(f"{path} holds no record of {kind} that can be read")
    images = {entry.group: entry.image for entry in entries}
    asked = questions(Row(entry.group, entry.samples) for entry in entries)
    return [replace(question, image_name=images[question.group]) for question in asked]
