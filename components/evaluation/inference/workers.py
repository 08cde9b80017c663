"""Answers from several processes: Ray actors, each with the whole model (and a GPU of its own, if wanted)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from components.errors import UserError
from components.evaluation.inference.answering import answers_by_batch, batches
from components.evaluation.inference.journal import Answered
from components.evaluation.question import Question
from components.params import Evaluate

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

RESTARTS = 2  # of a worker that was lost, each with the batch it was at


@dataclass(frozen=True)
class Limits:
    max_new_tokens: int
    batch: int
    max_pixels: int


class Loadable(Protocol):
    """What a worker is sent: small, and `load` gives the model."""

    def load(self) -> Assistant: ...


class Worker:
    """Holds one loaded system."""

    def __init__(self, system: Loadable, limits: Limits) -> None:
        self._assistant, self._limits = system.load(), limits

    def answer(self, asked: Sequence[Question]) -> dict[int, Answered]:
        answers: dict[int, Answered] = {}
        for answered in answers_by_batch(self._assistant, asked, **vars(self._limits)):
            answers |= answered
        return answers


def answers_by_workers(
    system: Loadable, asked: Sequence[Question], limits: Limits, evaluate: Evaluate
) -> Iterator[dict[int, Answered]]:
    """As `answers_by_batch`, in the order in which `evaluate.workers` actors get ready."""
    import ray
    from ray.exceptions import RayActorError
    from ray.util import ActorPool

    from components.cluster import start_ray, worker_environment
    from components.nodes import check_workspace

    ours = not ray.is_initialized()
    if ours:
        start_ray(evaluate.workers, worker_environment(evaluate.use_gpu, threads=1), on_disk=True)
        check_workspace("components.evaluation.inference.workers", evaluate.use_gpu)
    make: Any = ray.remote(num_cpus=1, num_gpus=int(evaluate.use_gpu), max_restarts=RESTARTS, max_task_retries=RESTARTS)
    try:
        pool = ActorPool([make(Worker).remote(system, limits) for _ in range(evaluate.workers)])
        parts = [
            [place for group in groups for place in group]
            for groups in batches(asked, [question.text for question in asked], limits.batch)
        ]

        def send(actor: Any, places: list[int]) -> Any:
            return _placed.remote(places, actor.answer.remote([asked[place] for place in places]))

        _placed: Any = ray.remote(num_cpus=0)(_at_places)
        answered: Any = pool.map_unordered(send, parts)
        yield from answered
    except RayActorError as error:
        raise UserError(f"a worker of the evaluation was lost ({error}); run the stage again to go on") from error
    finally:
        if ours:
            ray.shutdown()


def _at_places(places: list[int], answers: dict[int, Answered]) -> dict[int, Answered]:
    return {places[number]: answer for number, answer in answers.items()}
