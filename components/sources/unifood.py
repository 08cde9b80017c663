"""UniFood as JSON lines, in the form this project defines (no public file of it was found).

    {"id": .., "dish": .., "image": "a.jpg", "title": .., "ingredients": [..], "instructions": "..",
     "nutrition": {"mass_g": .., "calories_kcal": .., "fat_g": .., "protein_g": .., "carbohydrate_g": ..}, "split": ..}

`dish` holds the photos of one dish together (default: the id); a missing field of a task leaves that task out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from components.data.schema import Sample
from components.data.tasks import ingredients_sample, nutrition_sample, recipe_sample
from components.params import Source
from components.sources.entry import (
    Entry,
    Malformed,
    Reject,
    annotation_files,
    declared_split,
    record_id,
    text_of,
)
from components.sources.nutrition import nutrition_problem
from components.sources.records import read_records


def read(spec: Source) -> Iterator[Entry | Reject]:
    for path in annotation_files(spec):
        for place, record in read_records(path, ("image",)):
            if isinstance(record, Reject):
                yield record
            elif not isinstance(record, dict):
                yield Reject(place, "record_malformed", f"must be an object, found {type(record).__name__}")
            else:
                yield from _entries(record, record_id(record, place))


def _entries(record: dict[str, Any], id: str) -> Iterator[Entry | Reject]:
    try:
        image = text_of(record, "image")
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
        dish = record.get("dish")
        group = str(dish) if isinstance(dish, str | int) and dish != "" else id
        yield Entry(image, f"unifood:{group}", samples, declared_split(record.get("split")))


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
