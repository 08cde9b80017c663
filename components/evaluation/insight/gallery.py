"""Test images for the report: the picture, what was asked about it, and what every row answered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from components.evaluation.question import Question
from components.evaluation.results import Results
from components.images.decoding import decode

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

LARGEST = 1024  # pixels per side of a stored picture


def choose(asked: Sequence[Question], most: int) -> list[list[Question]]:
    """The questions of at most `most` images. The first benchmark gets most places, each other one a few.

    Images are taken at even distances, so that they do not depend on how the data happens to begin; of a group (one
    dish photographed often) a second one only where there are too few groups.
    """
    images: dict[str, dict[str, list[Question]]] = {}
    for question in asked:
        if question.image_hash is not None:
            images.setdefault(question.benchmark, {}).setdefault(question.image_hash, []).append(question)
    few = max(1, most // 10)
    chosen: list[list[Question]] = []
    for place, of_benchmark in enumerate(images.values()):
        room = most - few * (len(images) - 1) if place == 0 else few
        chosen += _spread(list(of_benchmark.values()), room)
    return chosen[:most]


def _spread(images: list[list[Question]], count: int) -> list[list[Question]]:
    groups: dict[str, list[list[Question]]] = {}
    for place, image in enumerate(images):
        groups.setdefault(image[0].group or str(place), []).append(image)
    chosen: list[list[Question]] = []
    for one_of_each in zip_longest(*groups.values()):  # the first images of all groups, the second ones, ..
        there = [image for image in one_of_each if image is not None]
        room = min(count - len(chosen), len(there))
        chosen += [there[place * len(there) // room] for place in range(room)]
    return chosen


def entry(
    place: int,
    asked: Sequence[Question],
    results: Results,
    heat_map: str | None,
    occlusion: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One image of samples.json: file names under evaluation/insight, and an item for each question."""
    return {
        "image": image_name(place),
        "heat_map": heat_map,
        "occlusion": occlusion,
        "items": [
            {
                "id": question.id,
                "benchmark": question.benchmark,
                "source": question.source,
                "task": question.task,
                "question": question.text,
                "reference": list(question.references),
                "answers": _answers(question, results),
            }
            for question in asked
        ],
    }


def _answers(question: Question, results: Results) -> dict[str, str]:
    by_row = {row: results.of_task(row, question.task).get(question.name) for row in results.answers}
    return {row: answer.text for row, answer in by_row.items() if answer is not None}


def image_name(place: int) -> str:
    return f"image_{place}.png"


def save_heat_map(folder: Path, place: int, picture: Image.Image, assistant: Assistant) -> str | None:
    """Write the picture with the heat map of the raw cue and return the file's name; None without VCE."""
    from components.evaluation.insight import heat_map

    strength = heat_map.cue_strength(assistant, picture)
    if strength is None:
        return None
    name = f"heat_{place}.png"
    heat_map.draw(picture, strength, assistant.image, heat_map.mean_colour(assistant)).save(folder / name)
    return name


def save_occlusion(
    folder: Path, place: int, picture: Image.Image, assistant: Assistant, asked: Sequence[Question], results: Results
) -> dict[str, Any] | None:
    """What the fine-tuned model's answer to the image's first question rests on; None beyond the first few images."""
    from components.evaluation.insight import occlusion

    answers = [(question, _answers(question, results).get("finetune", "")) for question in asked]
    first = next(((question.text, answer) for question, answer in answers if answer.strip()), None)
    if place >= occlusion.IMAGES or first is None:
        return None
    return occlusion.save_occlusion(folder, place, picture, assistant, *first)


def save_image(folder: Path, place: int, question: Question, max_pixels: int) -> Image.Image:
    """Write the picture, reduced where it is large, and return it."""
    assert question.image is not None
    picture = decode(question.image, max_pixels)
    picture.thumbnail((LARGEST, LARGEST))
    picture.save(folder / image_name(place))
    return picture
