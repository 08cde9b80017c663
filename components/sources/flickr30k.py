"""Flickr30k: the captions file `name.jpg#0<TAB>caption` (some lines have a space for the tab), or Karpathy's JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.data.schema import Sample
from components.data.tasks import caption_sample
from components.errors import UserError
from components.params import Source
from components.sources.entry import Entry, Malformed, Reject, annotation_files, declared_split, text_of
from components.sources.records import read_object
from components.sources.text_files import open_text

_LINE = re.compile(r"(?P<name>[^\t]+?)#(?P<number>\d+)(?:\t| )\s*(?P<caption>.*)")


def read(spec: Source) -> Iterator[Entry | Reject]:
    for path in annotation_files(spec):
        yield from _karpathy(path) if ".json" in path.suffixes else _captions_file(path)


def _captions_file(path: Path) -> Iterator[Entry | Reject]:
    """Lines of one image follow each other."""
    image, samples = "", list[Sample]()
    with open_text(path) as stream:
        for number, line in enumerate(stream):
            if not line.strip():
                continue
            found = _LINE.fullmatch(line.rstrip("\r\n"))
            if not found:
                yield Reject(f"{path.name}:{number}", "record_malformed", "must be name#number, a tab, a caption")
                continue
            if samples and found["name"] != image:
                yield Entry(image, f"flickr30k:{image}", samples)
                samples = []
            image = found["name"]
            samples.append(caption_sample(f"{image}#{found['number']}", found["caption"].strip()))
    if samples:
        yield Entry(image, f"flickr30k:{image}", samples)


def _karpathy(path: Path) -> Iterator[Entry | Reject]:
    listed = read_object(path).get("images")
    if not isinstance(listed, list):
        raise UserError(f"{path} must hold a list images, as Karpathy's JSON does")
    for number, record in enumerate(listed):
        try:
            yield _of_record(record)
        except Malformed as error:
            yield Reject(f"{path.name}:{number}", "record_malformed", str(error))


def _of_record(record: Any) -> Entry:
    if not isinstance(record, dict) or not isinstance(record.get("sentences"), list):
        raise Malformed("must be an object with filename and sentences")
    image = text_of(record, "filename")
    samples = []
    for number, sentence in enumerate(record["sentences"]):
        if not isinstance(sentence, dict):
            raise Malformed("a sentence must be an object with raw")
        samples.append(caption_sample(f"{image}#{number}", text_of(sentence, "raw").strip()))
    if not samples:
        raise Malformed("has no sentence")
    return Entry(image, f"flickr30k:{image}", samples, declared_split(record.get("split")))
