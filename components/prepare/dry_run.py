"""Run the checks of a source without writing shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from glob import escape
from itertools import islice
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.files import expanded
from components.images.decoding import ImageError
from components.images.dvc_cache import is_cached
from components.images.kinds import HEAD, kind_of
from components.images.store import ImageStore
from components.params import Data, Source
from components.prepare.chunk import Rules, checked
from components.prepare.counts import RecordCounts
from components.prepare.source import source_chunks, too_many_rejects
from components.sources import reader
from components.sources.entry import Entry, Reject

_FIRST = 100  # records with an image, by which the folder of the images is seen


@dataclass(frozen=True)
class Report:
    name: str
    counts: RecordCounts
    rejects: list[Reject]
    problem: str | None  # why the source would be refused, or nothing

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        rejects = [{"id": one.id, "reason": one.reason, "detail": one.detail} for one in self.rejects]
        return {"source": self.name, **self.counts.summary(), "problem": self.problem, "rejects": rejects}


def check_source(
    name: str, spec: Source, data: Data, tokenizer: Path | None, progress: Callable[[int], None] = lambda done: None
) -> Report:
    """What preparing the source would keep and reject. Without a tokenizer tokens are not counted."""
    counts, rejects = RecordCounts(), list[Reject]()
    for chunk in source_chunks(spec, data):
        for one, tokens in checked(chunk.items, Rules(data.max_pixels, tokenizer)):
            counts.add(one, tokens)
            rejects += one.rejects
            progress(counts.kept + counts.rejected)
    return Report(name, counts, rejects, too_many_rejects(name, counts, data.max_rejected))


def named_source(target: str, images: str | None, sources: dict[str, Source]) -> Source:
    """A source of params.yaml by name, or a LLaVA-format JSON file with its images (default: beside it)."""
    if target in sources:
        spec = sources[target]
        return spec.model_copy(update={"images": _named_images(images)}) if images else spec
    file = Path(target)
    if not file.is_file():
        known = ", ".join(sources)
        raise UserError(f"{target} is no file and no source of params.yaml (data.sources has {known})")
    with file.open("rb") as stream:
        kind = kind_of(stream.read(HEAD))
    if kind in ("tar", "zip"):
        raise UserError(f"{target} is an archive; name the JSON of its records, and the archive by --images")
    # where a link leads, as DVC's do, the file's name is another
    spec = Source(kind="llava_json", path=str(file.absolute().parent), annotations=escape(file.name), images=".")
    place = _named_images(images) if images else _images_beside(file, spec)
    return spec.model_copy(update={"images": place})


def _named_images(images: str) -> str:
    """The whole path: a shell leaves the `~` of --images=~/photos."""
    return str(expanded(images, "--images").absolute())


def _images_beside(file: Path, spec: Source) -> str:
    """The folder of the file or, where it is a link beside which the first images are not, that of the file itself.

    Nothing but contents lies where a link leads into DVC's cache.
    """
    target = file.resolve()
    if not file.is_symlink() or is_cached(str(target)):
        return "."
    beside = ImageStore.open(file.absolute().parent, ".", 1)
    entries = (entry for entry in reader(spec.kind)(spec) if isinstance(entry, Entry) and entry.image)
    is_there = any(_is_there(beside, str(entry.image)) for entry in islice(entries, _FIRST))
    return "." if is_there else str(target.parent)


def _is_there(store: ImageStore, name: str) -> bool:
    try:
        store.find(name)
    except ImageError as error:
        return error.reason != "image_missing"
    return True
