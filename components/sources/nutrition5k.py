"""Nutrition5k: ragged CSV (dish id, five totals, seven columns for each ingredient) and photos named by dish.

Any image whose path holds a dish id is a photo of that dish: `imagery/<dish>/camera_A_frame_001.jpeg`,
`imagery/realsense_overhead/<dish>/rgb.png`, `overhead/<dish>.jpg`. All photos of a dish are one group.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from components.data.schema import Sample
from components.data.tasks import ingredients_sample, nutrition_sample
from components.images.store import ImageStore
from components.params import Source
from components.sources.entry import (
    Entry,
    Reject,
    Split,
    annotation_files,
    declared_split,
    number_of,
    source_root,
)
from components.sources.nutrition import nutrition_problem
from components.sources.text_files import open_text

# order of the columns: totals after the dish id, and again for each ingredient after its id and name
_TOTALS = ("calories_kcal", "mass_g", "fat_g", "carbohydrate_g", "protein_g")
_OF_INGREDIENT = ("mass_g", "calories_kcal", "fat_g", "carbohydrate_g", "protein_g")
_WIDTH = 2 + len(_OF_INGREDIENT)
_DISH = re.compile(r"dish_\d+")
_PHOTO = re.compile(r"(?<!depth_color)(?<!depth_raw)\.(?:jpe?g|png)$", re.IGNORECASE)


def read(spec: Source) -> Iterator[Entry | Reject]:
    root = source_root(spec)
    photos = _photos(root, spec.images or ".")
    splits = _published_splits(root)
    seen = set[str]()
    for path in annotation_files(spec):
        for number, row in _rows(path):
            place = f"{path.name}:{number}"
            if isinstance(row, Reject):
                yield row
                continue
            dish = row[0].strip()
            if dish in seen:
                yield Reject(dish, "duplicate_id", place)
                continue
            seen.add(dish)
            yield from _dish(dish, row, photos.pop(dish, []), splits.get(dish))
    for dish, names in photos.items():
        yield from (Reject(name, "no_annotation", f"no file describes {dish}") for name in names)


def _dish(dish: str, row: list[str], photos: list[str], split: Split | None) -> Iterator[Entry | Reject]:
    """Two samples a photo; without a photo the dish itself is the record that is left out."""
    samples, rejects = _samples(dish, row)
    if not photos:
        problem = (rejects[0].reason, rejects[0].detail) if rejects else ("no_photo", "")
        yield Reject(dish, *problem, expected=True)
    for name in photos:
        yield from (Reject(f"{name}:{reject.id}", reject.reason, reject.detail) for reject in rejects)
        named = [Sample(f"{name}:{sample.task}", sample.task, sample.turns, sample.gold) for sample in samples]
        if named:
            yield Entry(name, f"nutrition5k:{dish}", named, split)


def _samples(dish: str, row: list[str]) -> tuple[list[Sample], list[Reject]]:
    totals = _numbers(row[1:6], _TOTALS)
    parts = [row[at : at + _WIDTH] for at in range(6, len(row), _WIDTH)]
    amounts = [_numbers(part[2:], _OF_INGREDIENT) for part in parts]
    if totals is None or None in amounts:
        return [], [Reject(dish, "record_malformed", "must be an id, 5 numbers, and 7 columns for each ingredient")]
    samples, rejects = list[Sample](), list[Reject]()
    names = [part[1].strip() for part in parts]
    if "deprecated" in names:
        rejects.append(Reject("ingredients", "ingredient_deprecated", dish))
    else:
        samples.append(ingredients_sample("ingredients", names))
    sums = {field: sum(amount[field] for amount in amounts if amount) for field in _TOTALS}
    problem = nutrition_problem(totals, sums)
    if problem:
        rejects.append(Reject("nutrition", *problem))
    else:
        samples.append(nutrition_sample("nutrition", totals))
    return samples, rejects


def _numbers(cells: list[str], fields: tuple[str, ...]) -> dict[str, float] | None:
    if len(cells) != len(fields):
        return None
    values = {}
    for field, cell in zip(fields, cells, strict=True):
        try:
            values[field] = number_of(float(cell))
        except ValueError:
            return None
    return None if None in values.values() else values


def _rows(path: Path) -> Iterator[tuple[int, list[str] | Reject]]:
    """Rows without the cells that pad them to one width; a header, where there is one, falls out."""
    with open_text(path, newline="") as stream:
        lines = csv.reader(stream)
        number = -1
        while True:
            number += 1
            try:
                row = next(lines)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, Reject(f"{path.name}:{number}", "record_malformed", str(error))
                continue
            while row and not row[-1].strip():
                row.pop()
            if row and row[0].strip() != "dish_id":
                yield number, row


def _photos(root: Path, images: str | Mapping[str, str]) -> dict[str, list[str]]:
    """Names of photos by dish, sorted. Pixels are never looked at here, so the size limit does not matter."""
    photos = defaultdict(list)
    for name in ImageStore.open(root, images, max_pixels=0).names():
        dish = _DISH.search(name)
        if dish and _PHOTO.search(name):
            photos[dish[0]].append(name)
    return photos


def _published_splits(root: Path) -> dict[str, Split]:
    """dish_ids/splits/{rgb,depth}_{train,test}_ids.txt of the full data set, where they are there."""
    splits = dict[str, Split]()
    for path in sorted(root.glob("dish_ids/splits/*_ids.txt")):
        split = declared_split(path.stem.split("_")[1])
        if split:
            dishes = path.read_text(encoding="utf-8-sig").split()
            # a dish that is tested by one camera is not trained on by the other
            splits.update(dict.fromkeys((dish for dish in dishes if splits.get(dish) != "test"), split))
    return splits
