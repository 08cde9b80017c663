"""Training and asking one variant with one seed, each piece once however many tables want it.

What a run has learnt lies in its run state, its answers in the journal of its model.
What a piece took is remembered, so that the next table can say how long it will take.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from components.batching.sampler import split_rows
from components.evaluation.inference.asking import questions
from components.evaluation.inference.systems import Systems
from components.evaluation.insight import gallery
from components.evaluation.question import Name, Question
from components.evaluation.results import Results
from components.files import write_json
from components.locks import lock
from components.model.stored import ADAPTER_FOLDER, read_settings
from components.params import Params
from components.report.figures import duration
from components.tables.measured import Trial
from components.training.job import Job
from components.training.parts import parts_of
from components.training.stage import ASSIGNMENTS, BASE, PREPARED, make_job, run_training
from components.workspace import home

BF16 = 2  # bytes


class Trials:
    """Runs the trials of a study.

    planned: the settings of all of them, for the time that they will take. run_job: see `run_training`.
    """

    def __init__(self, params: Params, planned: Sequence[Params], run_job: Callable[..., None]) -> None:
        self._params, self._planned, self._run_job = params, list(planned), run_job
        self._file = home() / "tables" / f"seconds-{params.profile}.json"
        self._seconds = _known_seconds(self._file)
        self.worked = False  # whether anything was not done already

    @cached_property
    def asked(self) -> list[Question]:
        rows = list(split_rows(PREPARED, ASSIGNMENTS, self._params.finetune.sources, "test"))
        return questions(self._params.evaluate.benchmarks, rows, self._params.evaluate.files)

    @property
    def shown(self) -> list[Name]:
        """The questions about the test images that the report shows."""
        return [
            q.name for of_image in gallery.choose(self.asked, self._params.evaluate.samples_shown) for q in of_image
        ]

    def run(self, settings: Params) -> Trial:
        """Train both stages and ask, as far as it is not done already."""
        started = self._trained("pretrain", settings)
        trained = self._trained("finetune", settings, started)
        results, systems = Results(), self._systems(settings, trained)
        with self._timed("ask", systems.left("finetune", self.asked)):
            results.add("finetune", self.asked, systems.answers("finetune", self.asked))
        self._planned.remove(settings)
        run = str(read_settings(trained)["run"])
        return Trial(
            settings.seed, run, results.metrics["finetune"], results.answers["finetune"], adapter_bytes(trained)
        )

    def outlook(self) -> str:
        """How much there is to do and how long it will take, estimated from earlier pieces."""
        left = self._left()
        if not left:
            return "all of it is done already"
        counted = ", ".join(f"{count} to {kind}" for kind, count in left.items())
        if not all(kind in self._seconds for kind in left):
            return f"to do: {counted}; the time is known after the first"
        return f"to do: {counted}; about {until(sum(count * self._seconds[kind] for kind, count in left.items()))}"

    def _left(self) -> Counter[str]:
        """Pieces that are not done; a stage-1 run that several trials share is one."""
        left: Counter[str] = Counter()
        starts = set()
        for settings in self._planned:
            first = self._job("pretrain", settings)
            start = parts_of(first)
            if start is None:
                starts.add(first.folder)
                left.update(("finetune", "ask"))
                continue
            trained = parts_of(self._job("finetune", settings, start))
            if trained is None:
                left.update(("finetune", "ask"))
            elif self._systems(settings, trained).left("finetune", self.asked):
                left["ask"] += 1
        return Counter({"pretrain": len(starts)} if starts else {}) + left

    def _trained(self, stage: str, settings: Params, start: Path | None = None) -> Path:
        job = self._job(stage, settings, start)
        if parts_of(job) is None:
            recipe, adapter = (settings.finetune, settings.adapter) if start else (settings.pretrain, None)
            with self._timed(stage):
                run_training(stage, settings, recipe, adapter, start, None, self._run_job)
        parts = parts_of(job)
        assert parts is not None, "a finished run has parts"
        return parts

    def _job(self, stage: str, settings: Params, start: Path | None = None) -> Job:
        recipe, adapter = (settings.finetune, settings.adapter) if start else (settings.pretrain, None)
        return make_job(stage, settings, recipe, adapter, start)

    def _systems(self, settings: Params, trained: Path) -> Systems:
        return Systems(BASE, {"finetune": trained}, settings.finetune, settings.evaluate)

    @contextmanager
    def _timed(self, kind: str, worth: int = 1) -> Iterator[None]:
        """Remember how long a piece took, if there was anything to do."""
        began = time.monotonic()
        yield
        if worth:
            self.worked = True
            self._seconds[kind] = time.monotonic() - began
            with lock(self._file.stem):  # another table may be made at the same time
                write_json(self._file, self._seconds)


def until(seconds: float, now: float | None = None) -> str:
    """`12 min 05 s, till 14:02`; with the day where that is another."""
    now = time.time() if now is None else now
    begin, end = time.localtime(now), time.localtime(now + seconds)
    form = "%H:%M" if begin.tm_yday == end.tm_yday else "%d %B %H:%M"
    return f"{duration(seconds)}, till {time.strftime(form, end)}"


def _known_seconds(file: Path) -> dict[str, float]:
    """What each kind of piece took; a file that is no such memory is made again."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    sound = isinstance(known, dict) and all(isinstance(value, int | float) for value in known.values())
    return known if sound else {}


def adapter_bytes(parts: Path) -> int:
    """Size of a stored adapter in bf16."""
    from safetensors import safe_open

    with safe_open(parts / ADAPTER_FOLDER / "adapter_model.safetensors", "pt") as file:
        return BF16 * sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
