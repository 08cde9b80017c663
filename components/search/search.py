"""A search from settings to its result: Ray Tune over warm groups of workers, gone on with where it was killed."""

from __future__ import annotations

import math
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from components.batching.sampler import Samples
from components.cluster import start_ray
from components.digests import digest
from components.files import write_json
from components.model.assemble import check_fit
from components.model.stored import REFERENCE_FILE
from components.nodes import autoscaled, check_nodes, is_remote, wait_for_room
from components.params import Params
from components.search import trial as one
from components.search.capacity import TRIAL_CPUS, check_capacity
from components.search.gain import SPLITS
from components.search.result import Trial, best_of, make_trial, why_lost
from components.search.space import apply, decode, domains, encode, points, present, read_space
from components.search.trial import METRIC, RUNG, Setting, stage_1
from components.search.upkeep import owned, prune
from components.shared_storage import shared_storage
from components.training.job import Job, run_digest
from components.training.launcher import CODE, before_ray, worker_environment
from components.training.warm import Group
from components.workspace import ASSIGNMENTS, BASE, MANIFEST, PREPARED, PRETRAIN, home

DONE_FILE = "done.json"
STATES = "tune/experiment_state-*.json"  # Ray Tune's, from its first report on
FITTED, MOST_FITTED = ("vce.", "connector.", "adapter.targets"), 100  # settings that a base must suit; points checked
TRIAL_SHARE = 0.001  # of what Ray calls node:ADDRESS, which each node has once
FEWEST_AT_RANDOM = 4  # trials before TPE draws by what it has seen


@dataclass(frozen=True)
class Search:
    """A search that can start: everything about it has been checked but the cluster."""

    setting: Setting
    default: Job  # stage 2 with the present settings, watched as trials are
    state: Path  # Ray Tune's own state: what it needs to go on

    @property
    def params(self) -> Params:
        return self.setting.default

    @property
    def is_begun(self) -> bool:
        """Ray Tune has stored a state to go on from, and the result is not written."""
        return any(self.state.glob(STATES)) and not (self.state / DONE_FILE).exists()

    def end(self) -> None:
        """Its result is written: there is nothing to go on with."""
        write_json(self.state / DONE_FILE, True)


def plan(params: Params) -> Search:
    """Check space, budget and inputs, and name the search by all that determines it."""
    setting = Setting("", str(Path.cwd()), params.model_dump(), [])
    default = setting.default
    space = read_space(default)
    fitted = [dimension for dimension in space if dimension.key.startswith(FITTED)]
    for point in islice(points(fitted), MOST_FITTED if fitted else 0):
        changed = apply(default, point)
        check_fit(BASE, changed.vce if changed.vce.enabled else None, changed.adapter, changed.connector.chosen_vlora)
    job = one.stage_2(default, PRETRAIN)
    for split in SPLITS:  # trials are compared on the one, the gain is measured on both: none may be empty
        Samples(job.prepared, job.assignments, job.recipe.sources, job.recipe.tasks, split)
    tree = params.model_dump()
    name = digest([tree["tune"], stage_1(default), run_digest(job)])[:12]
    setting = replace(setting, search=f"search-{name}", space=space)
    return Search(setting, job, home() / "searches" / name)


@contextmanager
def ray_for(params: Params) -> Iterator[None]:
    """Ray with room for the trials. UserError where the machine, or the cluster of RAY_ADDRESS, has too little."""
    environment = worker_environment(params.training.use_gpu, params.training.threads_per_worker)
    environment |= {"LEA_HOME": str(home()), "RAY_CHDIR_TO_TRIAL_DIR": "0"}
    # Read by Ray Tune in this process: trials stay in the repository, Ctrl-C is ours, no report but our lines.
    os.environ |= {"RAY_CHDIR_TO_TRIAL_DIR": "0", "TUNE_DISABLE_SIGINT_HANDLER": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    remote = is_remote()
    cpus = os.cpu_count() or 1
    if not remote and not params.training.use_gpu:
        check_capacity(params, [{"CPU": cpus + 1}], f"this machine ({cpus} CPUs)")
    before_ray(params.training)
    start_ray(cpus + 1, environment)  # one more than there are, for the trials' own processes
    import ray

    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if remote:
            check_cluster_for(params, nodes)
        else:
            check_capacity(params, nodes, "this machine")
        yield
    finally:
        ray.shutdown()


def check_cluster_for(params: Params, nodes: Sequence[Mapping[str, float]]) -> None:
    """UserError where the cluster of RAY_ADDRESS is not fit for the trials of these settings."""
    tune, gpus = params.tune, params.training.use_gpu
    share = tune.gpu_per_worker if gpus else 1.0
    if autoscaled("GPU" if gpus else "CPU", share) >= tune.concurrent_trials * tune.workers_per_trial:
        wait_for_room(tune.workers_per_trial, gpus, "tune.workers_per_trial", share)  # of one trial; Tune asks for more
    else:
        check_capacity(params, nodes, "the cluster", trial_cpus=0)
    files = [ASSIGNMENTS, BASE / REFERENCE_FILE, *(PREPARED / name / MANIFEST for name in params.finetune.sources)]
    check_nodes(files, shared_storage(), gpus, CODE, here=True)


def resources(params: Params) -> Any:
    """Of a trial: its own process, on a cluster on this machine, which has the workspace; and its workers."""
    import ray
    from ray import tune

    own = {f"node:{ray.util.get_node_ip_address()}": TRIAL_SHARE} if is_remote() else {"CPU": TRIAL_CPUS}
    return tune.PlacementGroupFactory([own, *[one.per_worker(params)] * params.tune.workers_per_trial])


def run(search: Search, go_on: bool) -> list[Trial]:
    """All trials of the search, in the Ray that is up. KeyboardInterrupt where it was stopped by hand."""
    from ray import tune
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig

    from components.search.follow import Budget, Follow
    from components.search.trainable import PointTrainable

    params, setting = search.params, search.setting
    budget = params.tune.budget

    work = tune.with_resources(tune.with_parameters(PointTrainable, setting=setting), resources(params))
    if go_on:
        tuner = tune.Tuner.restore(str(search.state / "tune"), trainable=work)
    else:
        shutil.rmtree(search.state, ignore_errors=True)
        search.state.mkdir(parents=True)
        grid = params.tune.search == "grid"
        tuner = tune.Tuner(
            work,
            param_space=domains(setting.space, grid),
            tune_config=TuneConfig(
                metric=METRIC,
                mode="min",
                search_alg=searcher(params, setting),
                scheduler=_scheduler(params, setting.space),
                num_samples=1 if grid else budget.trials,
                max_concurrent_trials=params.tune.concurrent_trials,
                time_budget_s=budget.hours * 3600,
                trial_dirname_creator=lambda trial: trial.trial_id,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name="tune",
                storage_path=str(search.state),
                failure_config=FailureConfig(max_failures=params.tune.max_failures),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),  # runs have checkpoints of their own
                stop=Budget(setting.search, budget.disk_gb * 1e9),
                callbacks=[Follow(setting, search.default.sources, search.default.folder.name, search.state)],
                verbose=0,
            ),
        )
    with ending_in_order() as interrupted:
        results = tuner.fit()
    if interrupted.is_set():
        raise KeyboardInterrupt
    return collect(results, search)


@contextmanager
def ending_in_order() -> Iterator[threading.Event]:
    """Ctrl-C lets Ray Tune store its state and end; the event records it, for Tune alone would not report it."""
    interrupted = threading.Event()

    def pass_on(number: int, frame: Any) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one does not wait
        signal.raise_signal(signal.SIGUSR1)  # which Tune takes as the sign to end

    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def finish(search: Search, trials: list[Trial]) -> tuple[Trial, Job]:
    """The best trial and its job. The default is trained to its end, to be compared with; other runs are removed."""
    setting, best = search.setting, best_of(trials)
    with closing(Group(one.per_worker(setting.default))) as group:
        job = one.job_of(apply(setting.default, best.values), setting, group)
        for needed in (search.default, job):  # the best one's may have been taken away with a full disk
            for _ in one.train(needed, setting, group):
                pass
    kept = {search.default.folder.name, job.folder.name, best.start}
    prune(setting.search, {run.name for run in owned(setting.search)} - kept)
    return best, job


def collect(results: Any, search: Search) -> list[Trial]:
    """Trials from Ray Tune's results, in the order in which they were drawn."""
    from components.search.follow import number_of

    frames = [result.metrics_dataframe for result in results]
    kept = [frame for frame in frames if frame is not None and METRIC in frame]
    begun = min((float((frame["timestamp"] - frame["time_total_s"]).min()) for frame in kept), default=0.0)
    trials = []
    for result, frame in zip(results, frames, strict=True):
        last = result.metrics or {}
        curve: dict[float, list[float]] = {}
        for row in frame.to_dict("records") if frame is not None and METRIC in frame else []:
            if math.isfinite(row[METRIC]):
                point = [float(row["epoch"]), float(row[METRIC]), float(row["timestamp"]) - begun]
                curve.setdefault(point[0], point)  # a trial that was started again reports its first epochs twice
        lost = "" if result.error is None else why_lost(result.error)
        number = number_of(search.state, Path(result.path).name)
        trials.append(make_trial(number, decode(result.config, search.setting.space), last, lost, list(curve.values())))
    return sorted(trials, key=lambda trial: trial.number)


def searcher(params: Params, setting: Setting) -> Any:
    """How points are drawn. The present settings come first, where they lie in the space."""
    point = present(setting.default, setting.space)
    first = [{key: encode(value) for key, value in point.items()}] if point else None
    if params.tune.search != "tpe":
        from ray.tune.search.basic_variant import BasicVariantGenerator

        grid = params.tune.search == "grid"
        return BasicVariantGenerator(
            points_to_evaluate=None if grid else first,
            max_concurrent=params.tune.concurrent_trials,  # it does not heed TuneConfig's
            random_state=params.tune.seed,
        )
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    at_random = max(FEWEST_AT_RANDOM, params.tune.budget.trials // 4)
    sampler = optuna.samplers.TPESampler(seed=params.tune.seed, n_startup_trials=at_random)
    return OptunaSearch(sampler=sampler, points_to_evaluate=first)


def _scheduler(params: Params, space: Any) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if params.tune.scheduler == "none":
        return FIFOScheduler()
    epochs = [max(d.values) for d in space if d.key == "finetune.epochs"] or [params.finetune.epochs]
    return ASHAScheduler(
        time_attr=RUNG,
        max_t=max(*epochs, params.tune.asha.grace_epochs),
        grace_period=params.tune.asha.grace_epochs,  # pyright: ignore[reportArgumentType]
        reduction_factor=params.tune.asha.reduction,
        stop_last_trials=False,  # a trial at its end must still write its checkpoint
    )
