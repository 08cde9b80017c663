"""Kill both training stages at random, again and again: do they end as if nothing had happened?

    python -m benchmarks.chaos --kills 20 --seed 1        # or: make chaos

Stages run as users run them (`python -m pipelines.pretrain`), on the settings of params.yaml, in a folder of their own,
on a base that is hardly trained. First calmly, then under fire: a worker dies (SIGKILL: Ray starts the group
again), the driver dies (SIGKILL: the command is given again), or Ctrl-C comes (SIGINT: likewise), each at a random
moment, start-up included. Weights, moments and metrics.jsonl must be equal to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from rich.table import Table

from components.digests import file_digest
from components.progress import print_table

ROOT = Path(__file__).parent.parent
STAGES = ("pretrain", "finetune")
KINDS = ("worker", "worker", "worker", "driver", "ctrl-c")  # a worker's death is the commonest
SMALL: dict[str, dict[str, Any]] = {
    "base.tiny.vision": {"images": 64, "epochs": 1},
    "base.tiny.language": {"texts": 64},
    "training": {"checkpoint_every_steps": 10, "max_failures": 1000},
}


@dataclass(frozen=True)
class Kill:
    stage: str
    kind: str
    after_s: float  # since the stage's last start
    step: int  # steps written down when it came


def prepare(folder: Path, epochs: int | None) -> None:
    """Raw data to base, from the committed settings."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for place, values in SMALL.items():
        section = tree
        for key in place.split("."):
            section = section[key]
        section.update(values)
    for stage in STAGES if epochs else ():
        tree[stage]["epochs"] = epochs
    (folder / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    for name in tree["plates"]["sets"]:
        run(folder, "calm", "plates", name)
    run(folder, "calm", "base")  # its tokenizer counts tokens
    for name in tree["data"]["sources"]:
        run(folder, "calm", "prepare", name)
    run(folder, "calm", "splits")


def start(folder: Path, home: str, *command: str) -> subprocess.Popen[bytes]:
    """A stage as a process; its output goes to log.txt."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEA_HOME": str(folder / home)}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"pipelines.{command[0]}", *command[1:]],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )


def run(folder: Path, home: str, *command: str) -> None:
    if start(folder, home, *command).wait() != 0:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
        raise SystemExit(f"error: {' '.join(command)} failed: {lines[-1]} (see {folder / 'log.txt'})")


def storm(folder: Path, stage: str, kills: int, chance: random.Random, longest_s: float) -> Iterator[Kill]:
    """Run a stage to its end under `kills` blows, told one by one."""
    process, since = start(folder, "storm", stage), time.monotonic()
    while kills:
        time.sleep(chance.uniform(1, longest_s))
        kind = chance.choice(KINDS)
        if process.poll() is not None:  # done before the blow came
            assert process.returncode == 0, f"{stage} ended with {process.returncode}, see {folder / 'log.txt'}"
            shutil.rmtree(run_folder(folder, "storm", stage))  # once more from the start
            process, since = start(folder, "storm", stage), time.monotonic()
            continue
        step = steps_written(folder, stage)
        if not strike(process, kind, chance):
            continue  # no worker is up yet
        yield Kill(stage, kind, time.monotonic() - since, step)
        kills -= 1
        if kind != "worker":
            process, since = start(folder, "storm", stage), time.monotonic()
    assert process.wait() == 0, f"{stage} ended with {process.returncode}, see {folder / 'log.txt'}"


def strike(process: subprocess.Popen[Any], kind: str, chance: random.Random) -> bool:
    """False where there is no worker to kill yet."""
    if kind == "worker":
        workers = [child for child in psutil.Process(process.pid).children(recursive=True) if is_worker(child)]
        if workers:
            chance.choice(workers).kill()
        return bool(workers)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL if kind == "driver" else signal.SIGINT)
    process.wait()
    _, left = psutil.wait_procs(family, timeout=120)  # Ray's processes share the driver's fate, its agents late
    assert not left, f"left behind: {left}"
    return True


def is_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in process.name() or "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def run_folder(folder: Path, home: str, stage: str) -> Path:
    (found,) = (folder / home / "runs").glob(f"{stage}-*")
    return found


def steps_written(folder: Path, stage: str) -> int:
    files = list((folder / "storm" / "runs").glob(f"{stage}-*/metrics.jsonl"))
    return sum(line.count(b"\n") for line in [files[0].read_bytes()]) if files else 0


def results(folder: Path, home: str, stage: str) -> dict[str, str]:
    """Digests of what must not depend on what happened."""
    one = run_folder(folder, home, stage)
    (checkpoint,) = (one / "checkpoints").iterdir()
    files = [one / "metrics.jsonl", *sorted(checkpoint.glob("*.safetensors"))]
    return {path.name: file_digest(path) for path in files}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="instead of those of params.yaml")
    parser.add_argument("--longest", type=float, default=30, help="seconds between blows, at most")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/chaos.json"))
    args = parser.parse_args()
    chance, told = random.Random(args.seed), list[Kill]()
    table = Table("stage", "killed", "after s", "at step")
    verdicts: dict[str, dict[str, bool]] = {}
    with tempfile.TemporaryDirectory(prefix="lea-chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        prepare(folder, args.epochs)
        for number, stage in enumerate(STAGES):
            run(folder, "calm", stage)
            kills = args.kills // 2 if number == 0 else args.kills - args.kills // 2
            for kill in storm(folder, stage, kills, chance, args.longest):
                print(f"{kill.stage}: {kill.kind} after {kill.after_s:.0f} s, step {kill.step}", flush=True)
                told.append(kill)
            calm, stormy = (results(folder, home, stage) for home in ("calm", "storm"))
            verdicts[stage] = {file: calm[file] == stormy[file] for file in calm}
    for kill in told:
        table.add_row(kill.stage, kill.kind, f"{kill.after_s:.0f}", str(kill.step))
    print_table(table, f"{len(told)} kills")
    verdict = Table("stage", "file", "equal to the calm run's")
    for stage, files in verdicts.items():
        for file, equal in files.items():
            verdict.add_row(stage, file, "yes" if equal else "NO")
    print_table(verdict, "what was left")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    report = {"seed": args.seed, "kills": [asdict(kill) for kill in told], "equal": verdicts}
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(all(files.values()) for files in verdicts.values()) else 1)


if __name__ == "__main__":
    main()
