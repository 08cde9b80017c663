"""What a source reads from beside its own folder: DVC neither keeps it nor sees when it changes.

DVC hashes what lies under `path`. It follows links to files, and no links to folders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.images.dvc_cache import is_cached
from components.params import Source
from components.sources.entry import annotation_files, source_root


def unseen_by_dvc(spec: Source) -> list[Path]:
    """Images and annotation files that lie outside, as the settings or a link name them."""
    root = source_root(spec)
    return [place for place in _places(root, spec) if _is_unseen(place, root.resolve())]


def _places(root: Path, spec: Source) -> Iterator[Path]:
    if isinstance(spec.images, str):
        yield root / spec.images
    else:
        yield from (root / place for place in (spec.images or {}).values())
    yield from annotation_files(spec)


def _is_unseen(place: Path, root: Path) -> bool:
    seen_from = place.resolve() if place.is_dir() else place.parent.resolve()
    return not (seen_from.is_relative_to(root) or is_cached(str(place.resolve())))
