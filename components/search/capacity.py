"""Whether the cluster can hold the trials. Ray Tune would wait for ever, and say nothing, where it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from components.errors import UserError
from components.params import Params

TRIAL_CPUS = 0.01  # of the process that looks after a trial's workers
Node = Mapping[str, float]  # "CPU" and "GPU" that a node declares


def check_capacity(params: Params, nodes: Sequence[Node], where: str, trial_cpus: float = TRIAL_CPUS) -> None:
    """UserError, with what would fit, where tune.concurrent_trials * tune.workers_per_trial is too much for `nodes`.

    trial_cpus: what the process of a trial takes; nothing on a cluster, where it lies on the driver's machine.
    """
    tune = params.tune
    trials, workers = tune.concurrent_trials, tune.workers_per_trial
    share = tune.gpu_per_worker if params.training.use_gpu else 0.0
    places = num_workers(nodes, trials, share, trial_cpus)
    if trials * workers <= places:
        return
    fitting = [
        f"concurrent_trials {most} with workers_per_trial {size}"
        for size in sorted({workers, 1}, reverse=True)
        for most in [next((n for n in range(trials, 0, -1) if n * size <= num_workers(nodes, n, share, trial_cpus)), 0)]
        if most
    ]
    each = f"a CPU and {share:g} GPU" if share else "a CPU"
    advice = f"what would fit: tune.{', or '.join(fitting)}" if fitting else "no trial fits"
    raise UserError(
        f"params.yaml: tune: {trials} concurrent trials of {workers} workers need {trials * workers} places of {each}, "
        f"but {where} has {places}; {advice}"
    )


def num_workers(nodes: Sequence[Node], trials: int, gpu_share: float, trial_cpus: float = TRIAL_CPUS) -> int:
    """Workers that fit beside the processes of `trials` trials, wherever Ray puts those: one costs a place at most."""

    def places(trials_there: int) -> int:
        total = 0
        for node in nodes:
            fit = int(node.get("CPU", 0) - trials_there * trial_cpus + 1e-9)
            if gpu_share:
                fit = min(fit, int(node.get("GPU", 0)) * int(1 / gpu_share + 1e-9))
            total += max(0, fit)
        return total

    return max(places(trials), places(0) - trials if trial_cpus else 0)
