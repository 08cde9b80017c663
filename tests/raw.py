"""Small raw data in every source's own layout, drawn in memory."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from components.data.tasks import NUTRITION_FIELDS
from components.params import Data, Source, Splits
from components.prepare.source import prepare_source


def picture(number: int, size: tuple[int, int] = (16, 12), format: str = "PNG") -> bytes:
    """An image that differs from that of every other number."""
    sink = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 90)).save(sink, format)
    return sink.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def write_folder(path: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)


@cache
def tokenizer_file() -> Path:
    """A word-level tokenizer.json."""
    core = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))  # pyright: ignore
    core.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    path = Path(tempfile.mkdtemp()) / "tokenizer.json"
    core.save(str(path))
    return path


def prepared(name: str, spec: Source, data: Data, out: Path, *progress: Any) -> dict[str, Any]:
    """prepare_source with the tests' tokenizer."""
    return prepare_source(name, spec, data, tokenizer_file(), out, *progress)


def data_settings(**changes: Any) -> Data:
    """Settings of the data section for tests; sources are given to prepare_source one by one."""
    source = Source(kind="llava_json", path="unused", annotations="*", images=None)
    settings: dict[str, Any] = {
        "max_rejected": 1,
        "max_pixels": 10_000,
        "shard_bytes": 1_000_000,
        "splits": Splits(validation=0.1, test=0.2),
        "sources": {"unused": source},
    }
    return Data.model_validate(settings | changes)


def llava_record(number: int, **changes: Any) -> dict[str, Any]:
    record = {
        "id": f"{number:05}",
        "image": f"{number}.png",
        "conversations": [
            {"from": "human", "value": "What is this?\n<image>"},
            {"from": "gpt", "value": f"plate {number}"},
        ],
    }
    return record | changes


def unifood_record(number: int, **changes: Any) -> dict[str, Any]:
    record = {
        "id": str(number),
        "image": f"{number}.png",
        "ingredients": ["soy sauce", "rice"],
        "instructions": "Boil the rice.",
        "nutrition": dict(zip(NUTRITION_FIELDS, (300, 400, 10, 20, 50.5), strict=True)),
    }
    return record | changes


def raw_llava_json(root: Path, number: int = 6) -> Source:
    root.mkdir(parents=True)
    (root / "captions.json").write_text(json.dumps([llava_record(i) for i in range(number)]))
    write_tar(root / "images.tar", {f"{i}.png": picture(i) for i in range(number)})
    return Source(kind="llava_json", path=str(root), annotations="*.json", images="images.tar")


def raw_unifood(root: Path, number: int = 6) -> Source:
    root.mkdir(parents=True)
    (root / "dishes.jsonl").write_text("\n".join(json.dumps(unifood_record(i)) for i in range(number)))
    write_tar(root / "images.tar", {f"{i}.png": picture(i) for i in range(number)})
    return Source(kind="unifood", path=str(root), annotations="*.jsonl", images="images.tar")


def raw_scienceqa(root: Path, number: int = 6) -> Source:
    problems, images, splits = {}, {}, {"train": [], "val": [], "test": [], "minival": []}
    for i in range(number):
        split = ("train", "val", "test")[i % 3]
        image = "image.png" if i % 2 else None
        problems[str(i)] = {
            "question": f"q{i}?",
            "choices": ["x", "y", "z"],
            "answer": i % 3,
            "hint": "",
            "image": image,
        }
        splits[split].append(str(i))
        if image:
            images[f"images/{split}/{i}/image.png"] = picture(i)
    splits["minival"] = splits["val"]
    write_folder(root, images)
    (root / "problems.json").write_text(json.dumps(problems))
    (root / "pid_splits.json").write_text(json.dumps(splits))
    return Source(kind="scienceqa", path=str(root), annotations="problems.json", images="images")


def raw_flickr30k(root: Path, number: int = 6) -> Source:
    root.mkdir(parents=True)
    lines = [f"{i}.png#{k}{' ' if k == 3 else chr(9)}caption {k} of {i}" for i in range(number) for k in range(5)]
    (root / "results.token").write_text("\n".join(lines))
    write_zip(root / "images.zip", {f"flickr30k-images/{i}.png": picture(i) for i in range(number)})
    return Source(kind="flickr30k", path=str(root), annotations="results.token", images="images.zip")


def raw_nutrition5k(root: Path, number: int = 6) -> Source:
    """Two photos a dish; ragged rows under a header."""
    photos = {}
    for i in range(number):
        photos[f"imagery/dish_{i}/camera_A_frame_001.png"] = picture(i)
        photos[f"overhead/dish_{i}.png"] = picture(1000 + i)
    write_folder(root, photos)
    rows: list[list[Any]] = [
        ["dish_id", " total_calories", " total_mass", " total_fat", " total_carb", " total_protein"]
    ]
    rows += [
        [f"dish_{i}", 130, 100, 1, 28, 3, *["ingr_1", "white rice", 100, 130, 1, 28, 3] * (i + 1)]
        for i in range(number)
    ]
    with (root / "dish_metadata_cafe1.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return Source(kind="nutrition5k", path=str(root), annotations="dish_metadata_*.csv", images=".")


def raw_webdataset(root: Path, number: int = 6) -> Source:
    root.mkdir(parents=True)
    files = {}
    for i in range(number):
        files[f"{i:09}.png"] = picture(i)
        files[f"{i:09}.json"] = json.dumps({"caption": f"caption {i}"}).encode()
        if i % 2:
            files[f"{i:09}.txt"] = f"caption {i}".encode()
    write_tar(root / "part-0.tar", files)
    return Source(kind="webdataset", path=str(root), annotations="*.tar", images=None)


RAW = {
    "flickr30k": raw_flickr30k,
    "llava_json": raw_llava_json,
    "nutrition5k": raw_nutrition5k,
    "scienceqa": raw_scienceqa,
    "unifood": raw_unifood,
    "webdataset": raw_webdataset,
}
