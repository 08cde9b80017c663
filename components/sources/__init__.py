"""Every source of data by the name that params.yaml gives it: one file here and one line below.

A reader takes the source's settings and yields an Entry for each image (its name, not its bytes) with all
samples about it, or a Reject for a record that cannot be used. Checks and images come later, in checks.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from components.errors import UserError
from components.params import Source
from components.sources import flickr30k, llava_json, nutrition5k, scienceqa, unifood, webdataset
from components.sources.entry import Entry, Reject

Reader = Callable[[Source], Iterator[Entry | Reject]]

SOURCES: dict[str, Reader] = {
    "flickr30k": flickr30k.read,
    "llava_json": llava_json.read,
    "nutrition5k": nutrition5k.read,
    "scienceqa": scienceqa.read,
    "unifood": unifood.read,
    "webdataset": webdataset.read,
}


def reader(kind: str) -> Reader:
    if kind not in SOURCES:
        raise UserError(f"params.yaml: data.sources: kind must be one of {', '.join(SOURCES)}, got {kind!r}")
    return SOURCES[kind]
