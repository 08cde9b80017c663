"""WebDataset: tars whose neighbouring members `key.jpg`, `key.txt`, `key.json` make one image with its caption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from tarfile import TarInfo

from components.data.tasks import caption_sample
from components.images.endings import IN_ORDER
from components.images.names import is_companion, shown
from components.images.tar import is_plain, tar_members
from components.params import Source
from components.sources.entry import Entry, Reject, Split, files_and_splits, source_root

_IMAGES = tuple(dict.fromkeys(ending[1:].lower() for ending in IN_ORDER))
_LONGEST_TEXT = 1 << 20  # bytes


def read(spec: Source) -> Iterator[Entry | Reject]:
    root = source_root(spec)
    for path, split in files_and_splits(spec):
        archive = path.relative_to(root).as_posix()
        with path.open("rb") as stream:
            for key, members in groupby(_own_members(path), key=lambda member: _split_name(member)[0]):
                files = {_split_name(member)[1]: member for member in members if is_plain(member)}
                if not files:
                    continue  # folders and links
                texts = {}
                for ending in ("txt", "json"):
                    if ending in files and files[ending].size <= _LONGEST_TEXT:
                        stream.seek(files[ending].offset_data)
                        texts[ending] = stream.read(files[ending].size)
                image = next((_name(files[ending]) for ending in _IMAGES if ending in files), None)
                yield _entry(f"{archive}/{key}", f"{archive}/{image}" if image else None, texts, split)


def _own_members(path: Path) -> Iterator[TarInfo]:
    """Without what macOS puts between them."""
    return (member for member in tar_members(path) if not is_companion(member.name))


def _entry(id: str, image: str | None, texts: dict[str, bytes], split: Split | None) -> Entry | Reject:
    if image is None:
        return Reject(id, "image_missing", f"no member ends in {', '.join(_IMAGES)}")
    caption = _caption(texts)
    if caption is None:
        return Reject(id, "record_malformed", "no .txt, and no .json with a caption")
    return Entry(image, f"webdataset:{id}", [caption_sample(id, caption)], split)


def _caption(texts: dict[str, bytes]) -> str | None:
    if "txt" in texts:
        return texts["txt"].decode("utf-8-sig", errors="surrogateescape").strip()
    try:
        record = json.loads(texts.get("json", b""))
    except (ValueError, RecursionError):
        return None
    caption = record.get("caption") if isinstance(record, dict) else None
    return caption.strip() if isinstance(caption, str) else None


def _split_name(member: TarInfo) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the file's name."""
    name = Path(_name(member))
    folder = name.parent.as_posix()
    key, _, ending = name.name.partition(".")
    return (key if folder == "." else f"{folder}/{key}"), ending.lower()


def _name(member: TarInfo) -> str:
    """As text that can be stored, where the tar's names are no UTF-8 too."""
    return shown(member.name.encode(errors="surrogateescape"))
