"""The synthetic domain: dishes, drawings, words, and raw files in the published layouts."""

from __future__ import annotations

import io
import json
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.data.tasks import (
    INGREDIENTS_QUESTION,
    NUTRITION_QUESTION,
    RECIPE_QUESTION,
    ingredients_answer,
    nutrition_answer,
    recipe_answer,
)
from components.params import Source
from components.sources import SOURCES
from components.sources.entry import Entry
from components.synthetic.plates.dish import Dish, draw_dish, numbers
from components.synthetic.plates.drawing import photograph
from components.synthetic.plates.layouts import WRITERS
from components.synthetic.plates.menu import INGREDIENTS, MAX_AMOUNT, MAX_PIECES, STYLES
from components.synthetic.plates.quiz import plate_problem, text_problem
from components.synthetic.plates.regions import TABLE, phrases, regions
from components.synthetic.plates.texts import document
from components.synthetic.plates.words import captions, counted, recipe, rich_caption

DISHES = [draw_dish(numbers(3, "tests", number)) for number in range(300)]
SIZE = 48
ANSWERS = [  # an answer of each task, and where its fixed opening ends
    (ingredients_answer(["egg"]), "egg"),
    (recipe_answer("Boil."), "Boil"),
    (nutrition_answer(DISHES[0].nutrition()), "weighs"),
]


def pixels(dish: Dish, seed: int) -> np.ndarray:
    return np.asarray(photograph(dish, SIZE, numbers(seed, "photo")).image).astype(int)


def written(name: str, folder: Path, count: int = 20, seed: int = 5) -> Path:
    folder.mkdir()
    WRITERS[name](folder, count, SIZE, seed)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- dishes ---


def test_dishes_hold_what_the_menu_allows() -> None:
    for dish in DISHES:
        assert 2 <= len(dish.ingredients) <= 5
        assert dish.ingredients == [name for name in INGREDIENTS if name in dish.ingredients]
        assert all(1 <= amount <= MAX_AMOUNT for _, amount in dish.amounts)
        assert sum(amount for _, amount in dish.amounts) <= MAX_PIECES
    assert {dish.style for dish in DISHES} == set(STYLES)
    assert {name for dish in DISHES for name in dish.ingredients} == set(INGREDIENTS)


def test_nutrition_adds_up_to_the_pieces_and_the_oil() -> None:
    dish = Dish("fried", (("egg", 2), ("olive", 3)))
    egg, olive, oil = INGREDIENTS["egg"], INGREDIENTS["olive"], STYLES["fried"].oil_g
    assert oil > 0
    assert dish.nutrition()["mass_g"] == 2 * egg.mass_g + 3 * olive.mass_g + oil
    assert dish.nutrition()["fat_g"] == 2 * egg.fat_g + 3 * olive.fat_g + oil


def test_nutrition_is_physically_possible() -> None:
    for dish in DISHES:
        total = dish.nutrition()
        parts = total["fat_g"] + total["protein_g"] + total["carbohydrate_g"]
        assert 0 < parts <= total["mass_g"]
        energy = 9 * total["fat_g"] + 4 * total["protein_g"] + 4 * total["carbohydrate_g"]
        assert total["calories_kcal"] == energy <= 9 * total["mass_g"]


# --- drawings ---


def test_photo_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert (pixels(DISHES[0], 1) == pixels(DISHES[0], 1)).all()
    assert (pixels(DISHES[0], 1) != pixels(DISHES[0], 2)).mean() > 0.3


def test_photo_has_the_size_asked_for() -> None:
    assert photograph(DISHES[0], 64, numbers(1, "photo")).image.size == (64, 64)


@pytest.mark.parametrize("name", INGREDIENTS)
def test_each_ingredient_shows(name: str) -> None:
    """Taking a lone ingredient's place by another changes the picture where the piece lies."""
    other = "olive" if name != "olive" else "egg"
    one, two = Dish("baked", ((name, 1), ("steak", 1))), Dish("baked", ((other, 1), ("steak", 1)))
    if name == "steak":
        one = Dish("baked", (("steak", 2),))
    differences = [np.abs(pixels(one, seed) - pixels(two, seed)).max(-1) > 40 for seed in range(4)]
    assert min(difference.sum() for difference in differences) > 12  # pixels


def test_each_style_shows() -> None:
    views = [pixels(replace(DISHES[0], style=style), 1) for style in STYLES]
    for number, view in enumerate(views):
        for another in views[number + 1 :]:
            assert (np.abs(view - another).max(-1) > 40).mean() > 0.2


def test_every_piece_lies_inside_the_photo_and_on_the_vessel() -> None:
    for number, dish in enumerate(DISHES[:100]):
        photo = photograph(dish, SIZE, numbers(number, "photo"))
        assert sorted(p.name for p in photo.pieces) == sorted(n for n, amount in dish.amounts for _ in range(amount))
        for piece in photo.pieces:
            assert 0 <= piece.x <= SIZE
            assert 0 <= piece.y <= SIZE
            assert np.hypot(piece.x - photo.middle[0], piece.y - photo.middle[1]) < photo.reach


def test_regions_name_every_ingredient_and_only_those() -> None:
    known = set(phrases())
    for number, dish in enumerate(DISHES[:100]):
        found = regions(dish, photograph(dish, SIZE, numbers(number, "photo")), 6)
        assert len(found) == 36
        named = {phrase for cell in found for phrase in cell}
        food = {counted(name, amount) for name, amount in dish.amounts}
        assert food <= named <= known
        assert named - food <= {TABLE, f"{dish.style} {dish.cooking.vessel}"}


# --- words ---


def test_recipe_depends_on_ingredients_and_on_style() -> None:
    dish = Dish("fried", (("steak", 1), ("egg", 2)))
    texts = {recipe(replace(dish, style=style)) for style in STYLES}
    assert len(texts) == len(STYLES)
    assert recipe(replace(dish, amounts=(("carrot", 1), ("egg", 2)))) not in texts


def test_recipe_names_every_ingredient_once() -> None:
    for dish in DISHES:
        words = re.findall(r"[a-z]+", recipe(dish).lower())
        assert sorted(word for word in words if word in INGREDIENTS) == sorted(dish.ingredients)


def test_raw_food_is_reported_in_the_other_order() -> None:
    amounts = (("steak", 1), ("egg", 1))
    assert recipe(Dish("baked", amounts)).index("steak") < recipe(Dish("baked", amounts)).index("egg")
    assert recipe(Dish("raw", amounts)).index("egg") < recipe(Dish("raw", amounts)).index("steak")


def test_captions_differ_and_rich_ones_tell_all() -> None:
    for dish in DISHES[:50]:
        assert len(set(captions(dish))) == 5
        caption = rich_caption(dish, numbers(1, "caption"))
        assert dish.style in caption
        assert dish.cooking.vessel in caption
        assert all(counted(name, amount) in caption for name, amount in dish.amounts)


def test_language_model_texts_never_hold_a_task_question_or_answer() -> None:
    for number in range(1000):
        text = document(numbers(2, "documents", number), (number % 10) / 10)
        whole = "\n".join([text.text, *text.glance, text.caption, *(f"{a}\n{b}" for a, b in text.dialogue)])
        for question in (INGREDIENTS_QUESTION, RECIPE_QUESTION, NUTRITION_QUESTION):
            assert question not in whole
        assert not any(answer.split(mark)[0] in whole for answer, mark in ANSWERS)


# --- questions ---


def test_plate_problems_have_one_right_choice() -> None:
    for number, dish in enumerate(DISHES):
        problem = plate_problem(dish, numbers(number, "quiz"))
        right = problem["choices"][problem["answer"]]
        assert len(set(problem["choices"])) == len(problem["choices"])
        said = {*dish.ingredients, dish.style}
        if "How many" in problem["question"]:
            assert any(counted(name, amount).startswith(right) for name, amount in dish.amounts)
        else:
            assert [choice for choice in problem["choices"] if choice in said] == [right]


def test_text_problem_asks_for_the_largest() -> None:
    for number in range(100):
        problem = text_problem(numbers(number, "quiz"))
        measure = "firmness" if "firm" in problem["question"] else "mass_g"
        values = [getattr(INGREDIENTS[choice], measure) for choice in problem["choices"]]
        assert values[problem["answer"]] == max(values)


# --- raw files ---


def test_writers_cover_the_sets_of_the_settings() -> None:
    assert list(WRITERS) == ["captions", "unifood", "scienceqa", "flickr30k"]


@pytest.mark.parametrize("name", WRITERS)
def test_raw_files_are_equal_for_one_seed_and_differ_for_another(name: str, tmp_path: Path) -> None:
    first, again = (contents(written(name, tmp_path / part)) for part in ("first", "again"))
    other = contents(written(name, tmp_path / "other", seed=6))
    assert first == again
    assert first != other


def test_captions_are_in_llavas_layout(tmp_path: Path) -> None:
    folder = written("captions", tmp_path / "set")
    records = json.loads((folder / "captions.json").read_text())
    with tarfile.open(folder / "images.tar") as archive:
        names = archive.getnames()
    assert [record["image"] for record in records] == names
    assert re.fullmatch(r"\d{5}/\d{9}\.png", names[0])
    asked = [record["conversations"][0]["value"] for record in records]
    assert {text.startswith("<image>\n") for text in asked} == {True, False}
    assert all(
        text.count("<image>") == 1 and (text.startswith("<image>") or text.endswith("<image>")) for text in asked
    )


def test_unifood_has_dishes_with_two_photos_that_differ(tmp_path: Path) -> None:
    folder = written("unifood", tmp_path / "set", count=21)
    records = [json.loads(line) for line in (folder / "dishes.jsonl").read_text().splitlines()]
    assert len(records) == 21
    photos: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        photos.setdefault(record["dish"], []).append(record)
    twice = [pair for pair in photos.values() if len(pair) == 2]
    assert twice
    assert all(len(pair) <= 2 for pair in photos.values())
    with tarfile.open(folder / "images.tar") as archive:
        for one, two in twice:
            same = ("ingredients", "instructions", "nutrition", "title")
            assert all(one[field] == two[field] for field in same)
            images = [archive.extractfile(record["image"]) for record in (one, two)]
            assert images[0]
            assert images[1]
            assert images[0].read() != images[1].read()


def test_scienceqa_splits_hold_every_problem_once(tmp_path: Path) -> None:
    folder = written("scienceqa", tmp_path / "set", count=40)
    problems = json.loads((folder / "problems.json").read_text())
    splits = json.loads((folder / "pid_splits.json").read_text())
    assert sorted(splits["train"] + splits["val"] + splits["test"], key=int) == list(problems)
    pictured = [pid for pid, problem in problems.items() if problem["image"]]
    assert len(pictured) == 40
    assert len(problems) == 50
    for pid in pictured:
        assert (folder / "images" / problems[pid]["split"] / pid / "image.png").is_file()


def test_flickr30k_has_five_captions_an_image(tmp_path: Path) -> None:
    folder = written("flickr30k", tmp_path / "set")
    with zipfile.ZipFile(folder / "images.zip") as archive:
        assert all(Image.open(io.BytesIO(archive.read(name))).size == (SIZE, SIZE) for name in archive.namelist())
        expected = [f"{name}#{number}" for name in archive.namelist() for number in range(5)]
    lines = (folder / "results.token").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == expected


@pytest.mark.parametrize(
    ("name", "kind", "annotations", "images", "tasks"),
    [
        ("captions", "llava_json", "captions.json", "images.tar", {"caption"}),
        ("unifood", "unifood", "*.jsonl", "images.tar", {"ingredients", "recipe", "nutrition"}),
        ("scienceqa", "scienceqa", "problems.json", "images", {"choice"}),
        ("flickr30k", "flickr30k", "results.token", "images.zip", {"caption"}),
    ],
)
def test_sources_read_every_record_of_a_set(
    name: str, kind: str, annotations: str, images: str, tasks: set[str], tmp_path: Path
) -> None:
    folder = written(name, tmp_path / "set")
    spec = Source(kind=kind, path=str(folder), annotations=annotations, images=images)
    entries = list(SOURCES[kind](spec))
    assert all(isinstance(entry, Entry) for entry in entries)
    assert len(entries) == (25 if name == "scienceqa" else 20)
    assert {sample.task for entry in entries if isinstance(entry, Entry) for sample in entry.samples} == tasks
