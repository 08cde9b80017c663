"""How fast are data prepared and loaded, and in how much memory? Prints a line for each figure, writes JSON.

    python -m benchmarks.data prepare --records 20000     # against a plain loop: Pillow, tokenizer, datasets
    python -m benchmarks.data scale --records 10000       # small records: time, proportional memory, no-op dvc repro
    python -m benchmarks.data load                        # against torch's DataLoader over loose files
    python -m benchmarks.data resume --records 1000000    # to a batch in the middle of an epoch

Each run adds its figures to the JSON, so the whole can be measured in slices. `prepare` needs the package `datasets`.
`scale` has Ray's workers make the shards of however few records (a small source is made in one process otherwise),
after the cluster has settled.
Goals on 2 cores: prepare 1.7 times as fast; time linear and memory flat from 10,000 to 1,000,000 records (at most 1.5
GB above an idle cluster, 1.2 times that of 10,000); loading as fast as DataLoader with a smaller start-up; resuming
below 2 s; a no-op `dvc repro` over a million records below 15 s.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from benchmarks.machine import machine
from components.batching.collator import MAX_PIXELS
from components.batching.prefetch import ahead
from components.batching.sampler import Plan
from components.cluster import PACKAGE_ROOT, start_ray
from components.data.shards import PreparedRows
from components.images.decoding import decode
from components.params import Data, Source, load_params
from components.prepare import parallel as spread
from components.prepare.source import prepare_source

DISTINCT = 200  # pictures that are drawn; every record's bytes differ by a comment
SETTLE_S = 180  # an idle cluster grows by about 12 MB in its first minutes, whatever it is used for
WORDS = "a plate of rice with beans and a spoon on the wooden table near the window of an old kitchen".split()  # noqa: SIM905


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "scale", "load", "resume"])
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="of load")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/data.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lea-bench-") as folder:
        os.environ["LEA_HOME"] = f"{folder}/home"
        measure = {"prepare": prepare, "scale": scale, "load": load, "resume": resume}[given.what]
        found = measure(Path(folder), given.records, given.rounds)
    found |= {"records": given.records, "machine": machine(), "python": platform.python_version()}
    for name, value in found.items():
        print(f"{given.what} {given.records}: {name} {value}")
    known = json.loads(given.output.read_text()) if given.output.exists() else {}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(known | {f"{given.what} {given.records}": found}, indent=2) + "\n")


# --- raw data ---


def pictures(size: tuple[int, int], form: str) -> list[bytes]:
    """Smooth colours with sensor noise: about as many bytes as a photo of that size."""
    chance, drawn = np.random.default_rng(0), []
    for _ in range(DISTINCT):
        coarse = Image.fromarray(chance.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse, dtype=np.float32) + chance.normal(0, 8, (size[1], size[0], 3))
        sink = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(sink, form, quality=90)
        drawn.append(sink.getvalue())
    return drawn


def numbered(data: bytes, number: int) -> bytes:
    """The same picture with bytes of its own: a JPEG comment, or bytes after the end of a PNG."""
    note = number.to_bytes(8)
    return data[:2] + b"\xff\xfe\x00\x0a" + note + data[2:] if data[:2] == b"\xff\xd8" else data + note


def raw(root: Path, records: int, size: tuple[int, int], form: str) -> tuple[Source, Path]:
    """A LLaVA-format source with its images in one tar, and a tokenizer.json."""
    root.mkdir(parents=True)
    drawn, ending = pictures(size, form), form.lower()
    chance = np.random.default_rng(1)
    with tarfile.open(root / "images.tar", "w") as archive, (root / "train.json").open("w") as lines:
        lines.write("[\n")
        for number in range(records):
            data = numbered(drawn[number % DISTINCT], number)
            member = tarfile.TarInfo(f"{number // 1000:05}/{number}.{ending}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
            answer = " ".join(WORDS[i] for i in chance.integers(0, len(WORDS), 30))
            turns = [
                {"from": "human", "value": "<image>\nDescribe it."},
                {"from": "gpt", "value": f"{answer} {number}."},
            ]
            record = {"id": str(number), "image": member.name, "conversations": turns}
            lines.write((",\n" if number else "") + json.dumps(record))
        lines.write("\n]\n")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel()  # pyright: ignore
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator([" ".join(WORDS)] * 9, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    core.save(str(root / "tokenizer.json"))
    return Source(
        kind="llava_json", path=str(root), annotations="train.json", images="images.tar"
    ), root / "tokenizer.json"


def settings() -> Data:
    return load_params().data


# --- prepare ---


def prepare(folder: Path, records: int, rounds: int) -> dict[str, Any]:
    spec, tokenizer = raw(folder / "raw", records, (640, 480), "JPEG")
    size = (folder / "raw/images.tar").stat().st_size
    started = time.perf_counter()
    rows = plain(folder, tokenizer)
    plainly = time.perf_counter() - started
    started = time.perf_counter()
    manifest = prepare_source("bench", spec, settings(), tokenizer, folder / "out")
    ours = time.perf_counter() - started
    assert rows == manifest["records"]["kept"] == records
    return {"bytes": size, "plain_s": plainly, "ours_s": ours, "times_as_fast": plainly / ours}


def plain(folder: Path, tokenizer: Path) -> int:
    """What one would write by hand that checks as much: decode each image, tokenise, write with `datasets`."""
    import datasets  # pyright: ignore[reportMissingImports]

    datasets.disable_progress_bars()
    core = Tokenizer.from_file(str(tokenizer))
    records = json.loads((folder / "raw/train.json").read_text())
    archive = tarfile.open(folder / "raw/images.tar")  # noqa: SIM115
    members = {member.name: member for member in archive.getmembers()}

    def rows() -> Iterator[dict[str, Any]]:
        for record in records:
            stream = archive.extractfile(members[record["image"]])
            assert stream is not None
            data = stream.read()
            Image.open(io.BytesIO(data)).convert("RGB")
            texts = [turn["value"] for turn in record["conversations"]]
            yield {
                "id": record["id"],
                "image": data,
                "texts": texts,
                "tokens": sum(len(core.encode(t).ids) for t in texts),
            }

    written = datasets.Dataset.from_generator(rows, cache_dir=str(folder / "plain"))
    return len(written)  # pyright: ignore[reportArgumentType]


# --- scale ---


def scale(folder: Path, records: int, rounds: int) -> dict[str, Any]:
    import ray

    spread._WORTH_RAY_ITEMS = 0
    spec, tokenizer = raw(folder / "data/raw/bench", records, (24, 24), "PNG")
    start_ray(1, spread.WORKER_ENVIRONMENT)
    time.sleep(SETTLE_S)
    idle = proportional_memory()
    peak, over = [idle], threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            peak.append(proportional_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    manifest = prepare_source("bench", spec, settings(), tokenizer, folder / "out")
    seconds = time.perf_counter() - started
    over.set()
    watcher.join()
    ray.shutdown()
    assert manifest["records"]["kept"] == records
    return {
        "seconds": seconds,
        "records_per_s": records / seconds,
        "memory_above_idle_mb": (max(peak) - idle) / 1e6,
        "idle_mb": idle / 1e6,
        "noop_repro_s": noop_repro(folder),
    }


def proportional_memory() -> int:
    """Bytes of this process and all below it, shared pages counted once (PSS)."""
    me, total = psutil.Process(), 0
    for process in [me, *me.children(recursive=True)]:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration):  # it ended meanwhile
            continue
    return total


def noop_repro(folder: Path) -> float:
    """Seconds of a `dvc repro` of this source's preparation that finds nothing to do."""
    root = PACKAGE_ROOT
    for name in ("components", "pipelines"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "dvc.yaml", folder)
    tree = yaml.safe_load((root / "params.yaml").read_text())
    where = {"kind": "llava_json", "path": "data/raw/bench", "annotations": "train.json", "images": "images.tar"}
    tree["data"]["sources"], tree["plates"]["sets"] = {"bench": where}, {}
    for stage in ("pretrain", "finetune"):
        tree[stage]["sources"] = ["bench"]
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    (folder / "models/base").mkdir(parents=True)
    shutil.copy(folder / "data/raw/bench/tokenizer.json", folder / "models/base")
    (folder / "data/prepared").mkdir()
    (folder / "out").rename(folder / "data/prepared/bench")

    def dvc(*command: str) -> float:
        started = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(root)}
        subprocess.run(
            [sys.executable, "-m", "dvc", *command], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - started

    dvc("init", "--no-scm", "-q")
    dvc("commit", "-f", "-q", "prepare@bench")  # what is there is what the stage gives
    return dvc("repro", "--single-item", "prepare@bench")


# --- load ---


def load(folder: Path, records: int, rounds: int) -> dict[str, Any]:
    spec, tokenizer = raw(folder / "raw", records, (640, 480), "JPEG")
    prepare_source("bench", spec, settings(), tokenizer, folder / "out")
    (folder / "loose").mkdir()
    for number, row in enumerate(PreparedRows(folder / "out")):
        (folder / f"loose/{number}.jpeg").write_bytes(row.image or b"")
    batches = np.random.default_rng(0).permutation(records)[: records // 16 * 16].reshape(-1, 16)
    figures: dict[str, list[tuple[float, float]]] = {"ours": [], "dataloader": []}
    readers = {"ours": ours, "dataloader": dataloader}
    for number in range(rounds):
        for who in sorted(readers, reverse=number % 2 == 0):  # each goes first in every other round
            figures[who].append(timed(readers[who](folder, batches)))
    middle = {
        f"{who}_{name}": statistics.median(run[at] for run in runs)
        for who, runs in figures.items()
        for at, name in enumerate(("first_batch_s", "images_per_s"))
    }
    return middle | {
        "times_as_fast": statistics.median(
            one[1] / other[1] for one, other in zip(figures["ours"], figures["dataloader"], strict=True)
        )
    }


def timed(batches: Iterator[Any]) -> tuple[float, float]:
    """Seconds to the first batch, and images per second over all."""
    started = time.perf_counter()
    next(batches)
    first = time.perf_counter() - started
    number = 1 + sum(1 for _ in batches)
    return first, number * 16 / (time.perf_counter() - started)


def ours(folder: Path, batches: np.ndarray) -> Iterator[Any]:
    rows = PreparedRows(folder / "out")
    return ahead(lambda step: [small(rows[int(n)].image or b"") for n in batches[step]], range(len(batches)), 2)


def dataloader(folder: Path, batches: np.ndarray) -> Iterator[Any]:
    import torch

    class Loose(torch.utils.data.Dataset):
        def __getitem__(self, number: int) -> np.ndarray:
            return small((folder / f"loose/{number}.jpeg").read_bytes())

    loader = torch.utils.data.DataLoader(Loose(), batch_sampler=batches.tolist(), num_workers=2, collate_fn=list)
    return iter(loader)


def small(data: bytes) -> np.ndarray:
    """The decoding that both do: RGB, 336 x 336."""
    return np.asarray(decode(data, MAX_PIXELS).resize((336, 336), Image.Resampling.BICUBIC))


def resume(folder: Path, records: int, rounds: int) -> dict[str, Any]:
    """Seconds to the list of samples of a step near the end of an epoch, from nothing: records of 3 samples each."""
    started = time.perf_counter()
    plan = Plan(np.arange(0, 3 * records + 1, 3), 128, 2, 0)
    plan.batch(int(plan.steps_per_epoch * 1.9))
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main()
