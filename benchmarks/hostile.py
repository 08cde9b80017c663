"""Damaged inputs and killed commands by the thousand: is anything lost, hung, or answered with a traceback?

    python -m benchmarks.hostile            # or: make hostile; --quick for a few of each

Each part has a number of tries and a time limit. A part that its time limit stopped says how many it tried.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import signal
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from PIL import Image

from benchmarks import hostile_files, hostile_kills, hostile_workspace
from benchmarks.hostile_files import Fault, mutated
from components.errors import UserError
from components.files import read_json
from components.images.decoding import ImageError, decode
from components.images.store import ImageStore
from components.params import load_params
from tools.markdown import replaced, table

ROOT = Path(__file__).parent.parent
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
PIXELS = 10**6  # what data.max_image_pixels would allow
SLOWEST_S, MOST_BYTES = 5.0, 1 << 30  # of one input: time, and growth of this process's memory
SLOWEST_ASKING_S = 30.0  # where an address is asked for an answer
COUNTS = {
    "images": 135_670,
    "archives": 23_300,
    "settings": 5_000,
    "JSON files": 5_000,
    "files of the workspace": 10_000,
    "variables": 3_000,
    "arguments": 3_000,
    "kills of fresh_folder": 200,
    "kills of promote": 200,
    "kills of register": 200,
    "promotions at once": 20,
}
INPUTS, CHANGES = list(COUNTS)[:4], list(COUNTS)[4:7]
QUICK = {**dict.fromkeys(INPUTS, 200), **dict.fromkeys(CHANGES, 50)}
PAGE, BLOCK = ROOT / "docs/hostile.md", "hostile"


@dataclass
class Part:
    """What one part tried. `failures` holds the first few; `failed` counts all."""

    name: str
    wanted: int
    tried: int = 0
    refused: int = 0  # with the error that belongs there; the others were read
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0
    slowest_s: float = 0
    memory_bytes: int = 0  # how much the most memory of this process grew

    def fail(self, text: str) -> None:
        self.failed += 1
        if len(self.failures) < 10:
            self.failures.append(text[:300])


def pictures(chance: random.Random) -> list[bytes]:
    """Sound images of each format, small and noisy, and a progressive JPEG."""
    found = []
    for name in FORMATS:
        for size in ((16, 12), (64, 48)):
            sink = io.BytesIO()
            Image.frombytes("RGB", size, chance.randbytes(3 * size[0] * size[1])).save(sink, name)
            found.append(sink.getvalue())
    sink = io.BytesIO()
    Image.frombytes("RGB", (64, 48), chance.randbytes(3 * 64 * 48)).save(sink, "JPEG", progressive=True)
    return [*found, sink.getvalue()]


def archives(chance: random.Random) -> list[bytes]:
    """Sound zips (stored and packed) and a tar of five images each."""
    files = {f"folder/{number}.png": data for number, data in enumerate(pictures(chance)[:5])}
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        found.append(sink.getvalue())
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return [*found, sink.getvalue()]


def read_archive(path: Path) -> None:
    """Every member by its name, as a source's records would ask for it."""
    store = ImageStore.open(path.parent, path.name, PIXELS)
    for name in [*store.names(), "folder/0.png", "4.png"]:
        try:
            store.read(name)
        except ImageError:
            continue


def try_inputs(
    part: Part, seeds: list[bytes], use: Callable[[bytes], object], limit_s: float, chance: random.Random
) -> None:
    """Use mutated seeds; only ImageError and UserError of one line may come out."""

    def one() -> bool:
        data = mutated(chance.choice(seeds), chance)
        try:
            use(data)
        except (ImageError, UserError) as error:
            if "\n" in str(error).strip():
                part.fail(f"more than one line: {error}")
            return True
        except Exception as error:  # what this benchmark looks for
            raise Fault(f"input {data[:60].hex()}", error) from error
        return False

    repeat(part, one, limit_s)


def repeat(part: Part, one: Callable[[], bool], limit_s: float) -> None:
    """Try until the count or the time is reached. `one` says whether it was refused; what it raises is a failure."""
    start, before = time.monotonic(), memory()
    while part.tried < part.wanted and time.monotonic() - start < limit_s:
        since = time.monotonic()
        try:
            part.refused += one()
        except Exception as error:  # what this benchmark looks for
            part.fail(f"{type(error).__name__}: {error}")
        took = time.monotonic() - since
        part.slowest_s = max(part.slowest_s, took)
        part.tried += 1
        if took > (SLOWEST_ASKING_S if part.name == "variables" else SLOWEST_S):
            part.fail(f"try {part.tried} took {took:.1f} s")
        if part.tried % 5000 == 0:
            show(part, limit_s - (time.monotonic() - start))
    part.memory_bytes = max(part.memory_bytes, memory() - before)
    if part.memory_bytes > MOST_BYTES:
        part.fail(f"memory grew by {part.memory_bytes} bytes")


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def show(part: Part, left_s: float) -> None:
    print(f"{part.name}: {part.tried} of {part.wanted}, {part.failed} failed, {max(0, left_s):.0f} s left", flush=True)


def run_part(part: Part, folder: Path, limit_s: float, chance: random.Random) -> None:
    if part.name in INPUTS:
        seeds, use = inputs(part.name, folder, chance)
        try_inputs(part, seeds, use, limit_s, chance)
    elif part.name in CHANGES:
        hostile_workspace.laid_out(folder / "a" / "workspace")
        cases = hostile_workspace.commands() if part.name == "variables" else hostile_workspace.cases()
        hostile_workspace.import_all()
        repeat(part, lambda: hostile_files.one_try(part.name, cases, chance)(), limit_s)
    else:
        run_kills(part, folder, limit_s, chance)


def inputs(name: str, folder: Path, chance: random.Random) -> tuple[list[bytes], Callable[[bytes], object]]:
    """Sound inputs of a part, and what reads one."""
    path = folder / "input"

    def written(read: Callable[[], object]) -> Callable[[bytes], object]:
        def use(data: bytes) -> object:
            path.write_bytes(data)
            return read()

        return use

    if name == "images":
        return pictures(chance), lambda data: decode(data, PIXELS)
    if name == "archives":
        return archives(chance), written(lambda: read_archive(path))
    if name == "settings":
        return [(ROOT / "params.yaml").read_bytes()], written(lambda: load_params(path))
    answers = json.dumps({"model": "m", "metrics": {"iou": 0.5}, "data": ["a", None, 1e9]}).encode()
    return [answers], written(lambda: read_json(path, "run: dvc repro", ("model", "metrics")))


def run_kills(part: Part, folder: Path, limit_s: float, chance: random.Random) -> None:
    start = time.monotonic()
    tries = hostile_kills.tries(part.name, folder / part.name.replace(" ", "-"), part.wanted, chance)
    for failure in tries:
        part.tried += 1 if part.name != "promotions at once" else part.wanted
        if failure:
            part.fail(failure)
        if part.tried % 20 == 0:
            show(part, limit_s - (time.monotonic() - start))
        if part.tried >= part.wanted or time.monotonic() - start > limit_s:
            break


def as_table(parts: list[Part]) -> str:
    rows = [
        [one.name, f"{one.tried:,} of {one.wanted:,}", f"{one.refused:,}", str(one.failed), f"{one.slowest_s:.2f}"]
        for one in parts
    ]
    return table(["what", "tried", "refused in one line", "failed", "slowest one, s"], rows)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="a few of each; writes no page")
    parser.add_argument("--more", action="store_true", help="go on with parts that are not at their end")
    parser.add_argument("--parts", nargs="+", choices=list(COUNTS), default=list(COUNTS))
    parser.add_argument("--limit", type=float, default=600, help="seconds for each part, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/hostile.json")
    args = parser.parse_args(words)
    args.output = args.output.absolute()
    warnings.simplefilter("ignore")  # Pillow warns of much that it reads all the same
    found = json.loads(args.output.read_text(encoding="utf-8"))["parts"] if args.output.exists() else []
    parts = {one["name"]: Part(**one) for one in found}
    for name in args.parts:
        wanted = min(COUNTS[name], QUICK.get(name, 2)) if args.quick else COUNTS[name]
        goes_on = args.more and name in parts and parts[name].wanted == wanted
        part = parts[name] = parts[name] if goes_on else Part(name, wanted)
        if part.tried >= part.wanted:
            continue
        try:
            run_aside(part, args.limit, random.Random(f"{args.seed} {name} {part.tried}"))
        finally:  # also when it is stopped: --more goes on from here
            write(parts, args)
        show(part, 0)
        for failure in part.failures:
            print(f"  {failure}")
    return 1 if any(parts[name].failed for name in args.parts) else 0


def run_aside(part: Part, limit_s: float, chance: random.Random) -> None:
    """Run a part in a folder of its own; parts change folder and environment."""
    environment, start = dict(os.environ), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lea-hostile-", ignore_cleanup_errors=True) as folder:
        try:
            run_part(part, Path(folder), limit_s, chance)
        finally:
            part.seconds += time.monotonic() - start
            os.chdir(ROOT)
            os.environ.clear()
            os.environ.update(environment)


def write(parts: Mapping[str, Part], args: argparse.Namespace) -> None:
    ordered = [parts[one] for one in COUNTS if one in parts]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    report = {"seed": args.seed, "parts": [asdict(one) for one in ordered]}
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if not args.quick:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), BLOCK, as_table(ordered)), encoding="utf-8")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
