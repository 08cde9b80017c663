"""The four sets of the synthetic domain, each as raw files in the layout of the data it stands for.

captions   LLaVA's 558K: captions.json, images.tar
unifood    JSON lines of this project: dishes.jsonl, images.tar; every fourth dish has two photos
scienceqa  problems.json, pid_splits.json, images/<split>/<pid>/image.png; one question in five has no image
flickr30k  results.token with five captions an image, images.zip
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.data.tasks import CAPTION_QUESTIONS
from components.synthetic.plates.archives import write_tar, write_zip
from components.synthetic.plates.dish import Dish, draw_dish, numbers
from components.synthetic.plates.drawing import photograph, png
from components.synthetic.plates.quiz import plate_problem, text_problem
from components.synthetic.plates.words import captions, recipe, rich_caption, title

_SCIENCEQA_SPLITS = {"train": 0.6, "val": 0.2, "test": 0.2}


def write_captions(folder: Path, count: int, size: int, seed: int) -> None:
    records, images = [], []
    for number in range(count):
        dish, image, rng = _photo(seed, "captions", number, size)
        name = f"{number // 1000:05d}/{number:09d}.png"
        question = rng.choice(sorted(CAPTION_QUESTIONS))
        human = f"<image>\n{question}" if rng.random() < 0.5 else f"{question}\n<image>"
        talk = [{"from": "human", "value": human}, {"from": "gpt", "value": rich_caption(dish, rng)}]
        records.append({"id": f"{number:09d}", "image": name, "conversations": talk})
        images.append((name, image))
    _write_json(folder / "captions.json", records)
    write_tar(folder / "images.tar", images)


def write_unifood(folder: Path, count: int, size: int, seed: int) -> None:
    records, images = [], []
    for number, (dish_number, dish, rng) in enumerate(_photographed_dishes(seed, count)):
        name = f"{number:06d}.png"
        record = {
            "id": f"photo_{number:06d}",
            "dish": f"dish_{dish_number:06d}",
            "image": name,
            "title": title(dish),
            "ingredients": dish.ingredients,
            "instructions": recipe(dish),
            "nutrition": dish.nutrition(),
        }
        records.append(record)
        images.append((name, png(photograph(dish, size, rng).image)))
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "dishes.jsonl").write_text(lines, encoding="utf-8")
    write_tar(folder / "images.tar", images)


def write_scienceqa(folder: Path, count: int, size: int, seed: int) -> None:
    """`count` questions with an image and a quarter as many without."""
    problems: dict[str, dict[str, Any]] = {}
    splits: dict[str, list[str]] = {split: [] for split in _SCIENCEQA_SPLITS}
    for number in range(count + count // 4):
        pid = str(number + 1)
        dish, image, rng = _photo(seed, "scienceqa", number, size)
        (split,) = rng.choices(list(_SCIENCEQA_SPLITS), weights=list(_SCIENCEQA_SPLITS.values()))
        pictured = number % 5 != 4
        problem = plate_problem(dish, rng) if pictured else text_problem(rng)
        problems[pid] = problem | {"image": "image.png" if pictured else None, "split": split}
        splits[split].append(pid)
        if pictured:
            place = folder / "images" / split / pid
            place.mkdir(parents=True)
            (place / "image.png").write_bytes(image)
    _write_json(folder / "problems.json", problems)
    _write_json(folder / "pid_splits.json", splits | {f"mini{split}": pids[:10] for split, pids in splits.items()})


def write_flickr30k(folder: Path, count: int, size: int, seed: int) -> None:
    lines, images = [], []
    for number in range(count):
        dish, image, rng = _photo(seed, "flickr30k", number, size)
        name = f"{1_000_000 + number}.png"
        for index, caption in enumerate(rng.sample(captions(dish), 5)):
            lines.append(f"{name}#{index}\t{caption}\n")
        images.append((name, image))
    (folder / "results.token").write_text("".join(lines), encoding="utf-8")
    write_zip(folder / "images.zip", images)


WRITERS: dict[str, Callable[[Path, int, int, int], None]] = {  # (folder, images, pixels per side, seed)
    "captions": write_captions,
    "unifood": write_unifood,
    "scienceqa": write_scienceqa,
    "flickr30k": write_flickr30k,
}


def _photo(seed: int, purpose: str, number: int, size: int) -> tuple[Dish, bytes, random.Random]:
    rng = numbers(seed, purpose, number)
    dish = draw_dish(rng)
    return dish, png(photograph(dish, size, rng).image), rng


def _photographed_dishes(seed: int, count: int) -> Iterator[tuple[int, Dish, random.Random]]:
    """`count` photos in all; every fourth dish twice."""
    photos = dish_number = 0
    while photos < count:
        rng = numbers(seed, "unifood", dish_number)
        dish = draw_dish(rng)
        for _ in range(min(2 if dish_number % 4 == 3 else 1, count - photos)):
            yield dish_number, dish, rng
            photos += 1
        dish_number += 1


def _write_json(target: Path, value: Any) -> None:
    target.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
