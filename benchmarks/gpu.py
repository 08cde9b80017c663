"""How fast is everything on a GPU, against peers? Prints a table, writes JSON.

    python -m benchmarks.gpu                      # every phase, at most 8 minutes: make gpu
    python -m benchmarks.gpu --phases decode      # one of them; the JSON keeps what others found
    python -m benchmarks.gpu --tiny               # the same code on a CPU, on toy models: its figures mean nothing

The model is LLaVA-1.5-7B in shape, with random weights that are made on the device: nothing is downloaded. A phase is
a process of its own with its own time limit; rows are written as they are measured, so that a phase that crashes or is
too slow costs what it had not yet written. A row is the median over rounds with its quartiles, ratios are of runs in
the same round, seconds are wall seconds, the host's waiting included. GOALS has what a row should reach.

Of this project's packages it needs numpy, peft, pillow, pyarrow, pydantic, pyyaml, ruamel.yaml, safetensors,
tokenizers, torch and transformers; not DeepSpeed, Ray or MLflow.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

Start = Literal["fork", "spawn"]
RESULTS = Path("benchmarks/results/gpu.json")
VERSIONS = ("torch", "transformers", "peft", "deepspeed", "triton")


@dataclass(frozen=True)
class Phase:
    """A function of benchmarks.on_gpu and the seconds it may take."""

    function: str
    limit_s: int
    arguments: tuple[str, ...] = ()


PHASES = {  # the most telling first: what time is left for falls on the last
    "training unifood": Phase("training:shapes", 60, ("unifood",)),
    "answers long": Phase("answering:long", 60),
    "regimes": Phase("training:regimes", 60),
    "decode": Phase("forwards:decode", 60),
    "prefill": Phase("forwards:prefill", 45),
    "llava": Phase("forwards:llava", 45),
    "answers short": Phase("answering:short", 45),
    "training one question": Phase("training:shapes", 60, ("one question",)),
    "training flickr30k": Phase("training:shapes", 60, ("flickr30k",)),
    "blocks": Phase("training:blocks", 75),
    "vce": Phase("forwards:cue", 30),
    "attention": Phase("attention:layer", 40),
    "decode without a graph": Phase("forwards:launched", 45),
    "trials in one step, 7B": Phase("trials:one_step", 45, ("7B",)),
    "trials in one step, small": Phase("trials:one_step", 30, ("small",)),
    "trials as processes, 7B": Phase("trials:processes", 120, ("7B",)),
    "trials as processes, small": Phase("trials:processes", 90, ("small",)),
}
BUDGET_S = 480  # of all phases; those that would start later are left out
GOALS: dict[str, tuple[str, float]] = {  # row -> the bound it should keep
    "decode dual_lora / lora, batch 1": ("<=", 1.03),
    "decode dual_lora / lora, batch 32": ("<=", 1.03),
    "decode top-2 of 4 / lora, batch 1": ("<=", 1.10),
    "decode rode / lora, batch 1": ("<=", 1.10),
    "prefill dual_lora / lora, batch 1": ("<=", 1.03),
    "prefill dual_lora / lora, batch 8": ("<=", 1.01),
    "llava prefill dual_lora + vce / lora, batch 1": ("<=", 1.05),
    "training unifood: peer's seconds / ours": (">=", 2.9),
    "training unifood: our peak memory / peer's": ("<=", 0.5),
    "training flickr30k: peer's seconds / ours": (">=", 4.5),
    "training one question: peer's seconds / ours": (">=", 1.15),
    "training q,v r64, tokens": (">=", 14_500),
    "training all linear r128": (">=", 24),
    "answers, 6 short an image: generate's seconds / ours": (">=", 5),
    "answers, 3 long an image: generate's seconds / ours": (">=", 5),
    "answers, 3 long an image: ours, a step": ("<=", 15),
    "lea plan / measured peak, q,v r64": ("within", 0.03),
    "lea plan / measured peak, all linear r128": ("within", 0.03),
}


def run_phase(name: str, tiny: bool, out: Path) -> None:
    """In a process of its own: measure, and write rows to `out`."""
    import torch

    from benchmarks.on_gpu.clock import Bench
    from components.cluster import gpu_environment

    os.environ.update(gpu_environment())  # as workers have it
    phase = PHASES[name]
    module, _, function = phase.function.partition(":")
    torch.set_float32_matmul_precision("high")
    device = torch.device("cpu" if tiny else "cuda")
    getattr(import_module(f"benchmarks.on_gpu.{module}"), function)(Bench(device, tiny, out), *phase.arguments)


def measured(name: str, tiny: bool, limit_s: float, start: Start = "fork") -> dict[str, Any]:
    """Run a phase in a process of its own: how it ended, its seconds, its rows, and what a failure printed last."""
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "rows.jsonl", Path(folder) / "log"
        out.touch()
        started = time.monotonic()
        state = in_child(run_phase, (name, tiny, out), log, limit_s, start)
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        end = [] if state == "done" else log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return {"state": state, "seconds": time.monotonic() - started, "rows": rows, "log": end}


def in_child(work: Callable[..., None], arguments: tuple[Any, ...], log: Path, limit_s: float, start: Start) -> str:
    """How `work` ended in another process.

    start: "fork" has the imports of this process and needs one in which nothing has touched CUDA; "spawn" imports anew.
    """
    context: Any = multiprocessing.get_context(start)
    child = context.Process(target=_logged, args=(work, arguments, log))
    child.start()
    try:
        child.join(limit_s)
    finally:
        if late := child.is_alive():
            _end(child)
    if late:
        return f"stopped after {limit_s:.0f} s"
    return "done" if child.exitcode == 0 else f"failed with exit code {child.exitcode}"


def _end(child: Any) -> None:
    """The process, and what it started: it leads a session of its own."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()  # had it not begun yet
    child.join()


def _logged(work: Callable[..., None], arguments: tuple[Any, ...], log: Path) -> None:
    os.setsid()
    with log.open("wb", buffering=0) as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # into the log, whatever the caller captures
    warnings.simplefilter("default")  # a warning ends no measurement
    work(*arguments)


def reaches(row: str, value: float | None) -> bool | None:
    """Whether a figure keeps its goal; None where it has none or was not measured."""
    if row not in GOALS or value is None:
        return None
    sign, bound = GOALS[row]
    if sign == "within":
        return abs(value - 1) <= bound
    return value <= bound if sign == "<=" else value >= bound


def table(results: dict[str, Any]) -> str:
    lines = [f"{results['card']}, torch {results['versions'].get('torch')}"]
    lines += [f"{'row':<62}{'value':>12}  {'quartiles':<20}{'unit':<11}{'goal':<12}"]
    for name, phase in results["phases"].items():
        if phase["state"] != "done":
            lines.append(f"{name}: {phase['state']}; measure it again: python -m benchmarks.gpu --phases {name!r}")
            lines += [f"    {line}" for line in phase["log"][-3:]]
        for row in phase["rows"]:
            value = "unmeasured" if row["value"] is None else f"{row['value']:.4g}"
            between = " to ".join(f"{quartile:.4g}" for quartile in row["spread"])
            goal = " ".join(map(str, GOALS.get(row["row"], ())))
            reached = None if results["tiny"] else reaches(row["row"], row["value"])
            mark = {True: "reached", False: "missed", None: ""}[reached]
            lines.append(f"{row['row']:<62}{value:>12}  {between:<20}{row['unit']:<11}{goal:<12}{mark}".rstrip())
    return "\n".join(lines)


def where(card: str, tiny: bool) -> dict[str, Any]:
    """Card, versions, day and commit."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    commit = git.stdout.strip() or None
    return {"card": card, "tiny": tiny, "versions": versions, "date": dt.date.today().isoformat(), "commit": commit}


def _card() -> tuple[str, Start]:
    """The card's name, and how a process must start that is to see it."""
    starts: tuple[Start, Start] = ("fork", "spawn")
    for start in starts:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "card"
            in_child(_write_card, (out,), Path(folder) / "log", 60, start)
            if out.exists():
                return out.read_text(encoding="utf-8"), start
    sys.exit("error: torch sees no GPU here; --tiny runs every phase on a CPU, to see that the script works")


def _write_card(out: Path) -> None:
    import torch

    out.write_text(torch.cuda.get_device_name(0), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--phases", nargs="*", default=list(PHASES), choices=list(PHASES))
    parser.add_argument("--tiny", action="store_true", help="toy models on a CPU; writes nothing but --output")
    parser.add_argument("--output", type=Path, help=f"by default {RESULTS}; none with --tiny")
    args = parser.parse_args()
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asking whether there is a GPU starts no CUDA
    for module in {phase.function.partition(":")[0] for phase in PHASES.values()}:
        import_module(f"benchmarks.on_gpu.{module}")  # once, for all phases
    output = args.output or (None if args.tiny else RESULTS)
    card, start = ("a CPU, toy models: no measurement", "fork") if args.tiny else _card()
    results: dict[str, Any] = {**where(card, args.tiny), "phases": {}}
    if output and output.exists():
        known = json.loads(output.read_text(encoding="utf-8"))
        same = all(known.get(key) == results[key] for key in ("card", "versions"))
        results["phases"] = known["phases"] if same else {}  # figures of two cards never stand side by side
    started = time.monotonic()
    for name in args.phases:
        left = BUDGET_S - (time.monotonic() - started)
        if left < 15:
            results["phases"][name] = {"state": "not started: no time was left", "seconds": 0, "rows": [], "log": []}
        else:
            found = measured(name, args.tiny, min(left, PHASES[name].limit_s), start)
            results["phases"][name] = {"date": results["date"], "commit": results["commit"], **found}
        found = results["phases"][name]
        print(f"{name}: {found['state']}, {found['seconds']:.0f} s, {len(found['rows'])} rows", flush=True)
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    if any(phase["state"] != "done" for phase in results["phases"].values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
