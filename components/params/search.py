"""The search over settings: `tune`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from components.params.section import NotNegative, Positive, Section


class Asha(Section):
    """Asynchronous successive halving: at grace, grace * reduction, ... epochs the best 1 / reduction go on."""

    grace_epochs: Annotated[float, Field(gt=0)]
    reduction: Annotated[float, Field(gt=1)]


class Budget(Section):
    """What a search may spend; it stops at whichever comes first."""

    trials: Positive
    hours: Annotated[float, Field(gt=0)]
    disk_gb: Annotated[float, Field(gt=0)]  # run state of its trials


class Tune(Section):
    """A search over settings of this tree by the loss on the validation split (`lea tune`).

    `space`: a setting's dotted key -> {choice: [...]}, {uniform: [low, high]}, {log_uniform: [low, high]} or
    {int: [low, high]} (both ends included).
    """

    space: dict[str, dict[Literal["choice", "uniform", "log_uniform", "int"], list[Any]]]
    search: Literal["random", "grid", "tpe"]
    seed: NotNegative  # of what is drawn; the trials themselves train with the seed of all runs
    scheduler: Literal["none", "asha"]
    asha: Asha
    budget: Budget
    concurrent_trials: Positive
    workers_per_trial: Positive
    gpu_per_worker: Annotated[float, Field(gt=0, le=1)]  # where training.use_gpu; a fraction shares one
    report_every_steps: Positive  # validation loss of a running trial
    validation_samples: NotNegative  # about; 0: the whole split
    max_failures: NotNegative  # starts again of a trial whose node was lost

    @model_validator(mode="after")
    def _workers_have_a_gpu_each(self) -> Tune:
        if self.gpu_per_worker < 1 and self.workers_per_trial > 1:
            raise ValueError(f"gpu_per_worker {self.gpu_per_worker} needs workers_per_trial 1: NCCL shares no GPU")
        return self
