"""UniFood: JSON lines in the form this project defines, or the authors' JSON (their code's; no file of it is public).

    {"id": .., "dish": .., "image": "a.jpg", "title": .., "ingredients": [..], "instructions": "..",
     "nutrition": {"mass_g": .., "calories_kcal": .., "fat_g": .., "protein_g": .., "carbohydrate_g": ..}, "split": ..}

`dish` holds the photos of one dish together (default: the id); a missing field of a task leaves that task out.

    [{"image": "a.jpg", "conversations": [{"form": "question", "value": ..}, {"form": "answer", "value": ..}, ..]}, ..]

Each pair of question and answer is a sample of its own, `a.jpg/qa0`: their evaluation asks each alone, with the image.
The marker <image> may stand before any question. A sample's task is what its question is about (tasks.dish_task).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

from components.data.schema import IMAGE_MARKER, Sample
from components.data.tasks import dish_sample, ingredients_sample, nutrition_sample, recipe_sample
from components.params import Source
from components.sources.entry import (
    Entry,
    Malformed,
    Reject,
    Split,
    as_id,
    declared_split,
    files_and_splits,
    record_id,
    text_of,
)
from components.sources.nutrition import nutrition_problem
from components.sources.record_images import RecordImages
from components.sources.records import read_records


def read(spec: Source) -> Iterator[Entry | Reject]:
    for path, split in files_and_splits(spec):
        for place, record in read_records(path, ("image", "conversations")):
            if isinstance(record, Reject):
                yield record
            elif not isinstance(record, dict):
                yield Reject(place, "record_malformed", f"must be an object, found {type(record).__name__}")
            else:
                read_record = _conversation if record.get("conversations") is not None else _fields
                yield from read_record(record, record_id(record, place), split)


def _conversation(record: dict[str, Any], id: str, split: Split | None) -> Iterator[Entry | Reject]:
    """The authors' form."""
    try:
        pairs = _pairs(record["conversations"])
        texts = [turn["value"] for turn in record["conversations"]]
        image = RecordImages(record).one(texts[::2])
        if image is None and any(IMAGE_MARKER in text for text in texts):
            raise Malformed("", "marker_without_image")
    except Malformed as error:
        yield Reject(id, error.reason, str(error))
        return
    name = image or id
    samples = [dish_sample(f"{name}/qa{n}", *pair, image=image is not None) for n, pair in enumerate(pairs)]
    # a record without an image is its own group, the same wherever it stands
    group = image or "text:" + sha256(json.dumps(pairs).encode()).hexdigest()
    yield Entry(image, f"unifood:{group}", samples, declared_split(record.get("split")) or split)


def _pairs(turns: Any) -> list[tuple[str, str]]:
    """Questions without the image's marker, and their answers."""
    if not isinstance(turns, list) or not turns or len(turns) % 2:
        raise Malformed("conversations must be a list of questions and answers in turn")
    values = []
    for number, turn in enumerate(turns):
        form = "answer" if number % 2 else "question"
        if not isinstance(turn, dict) or turn.get("form") != form:
            raise Malformed(f'conversations[{number}] must have the form "{form}" (kind llava_json reads "from")')
        values.append(text_of(turn, "value").replace(IMAGE_MARKER, "").strip())
    return list(zip(values[::2], values[1::2], strict=True))


def _fields(record: dict[str, Any], id: str, split: Split | None) -> Iterator[Entry | Reject]:
    try:
        image, dish = text_of(record, "image"), _dish(record)
    except Malformed as error:
        yield Reject(id, "record_malformed", str(error))
        return
    present = [field for field in _TASKS if record.get(field) is not None]
    if not present:
        yield Reject(id, "record_malformed", f"has none of {', '.join(_TASKS)}")
        return
    samples = []
    for field in present:
        task, build = _TASKS[field]
        try:
            sample = build(f"{id}/{task}", record[field])
        except Malformed as error:
            sample = Reject(f"{id}/{task}", "record_malformed", str(error))
        if isinstance(sample, Reject):
            yield sample
        else:
            samples.append(sample)
    if samples:
        yield Entry(image, f"unifood:{dish or id}", samples, declared_split(record.get("split")) or split)


def _dish(record: dict[str, Any]) -> str | None:
    """What holds photos together; one that is no id would let them stand in several splits."""
    value = record.get("dish")
    dish = as_id(value)
    if dish is None and value not in (None, "") and value == value:  # an empty cell may come as NaN
        raise Malformed(f"dish must be text or a number, found {type(value).__name__}")
    return dish


def _ingredients(id: str, names: Any) -> Sample:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Malformed("ingredients must be a list of names")
    return ingredients_sample(id, names)


def _recipe(id: str, text: Any) -> Sample:
    steps = text if isinstance(text, list) else [text]
    if not all(isinstance(step, str) for step in steps):
        raise Malformed("instructions must be text or a list of texts")
    return recipe_sample(id, " ".join(step.strip() for step in steps))


def _nutrition(id: str, values: Any) -> Sample | Reject:
    if not isinstance(values, dict):
        raise Malformed(f"nutrition must be an object, found {type(values).__name__}")
    problem = nutrition_problem(values)
    return Reject(id, *problem) if problem else nutrition_sample(id, values)


_TASKS: dict[str, tuple[str, Callable[[str, Any], Sample | Reject]]] = {  # field: (task, builder)
    "ingredients": ("ingredients", _ingredients),
    "instructions": ("recipe", _recipe),
    "nutrition": ("nutrition", _nutrition),
}
