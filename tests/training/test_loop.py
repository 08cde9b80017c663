"""The loop in one process, on drawn dishes: interrupted runs, whole runs, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from components.errors import UserError
from components.evaluation.inference.assistant import load_assistant
from components.model.stored import model_digest
from components.params import Params
from components.training import loop, stage
from components.training.checkpoint import checkpoints, newest_intact
from components.training.job import Job, Validation, from_message, run_digest, to_message
from components.training.journal import METRICS_FILE, SKIPPED_FILE, VALIDATION_FILE, Journal, read_journal
from components.training.loop import train
from components.training.loss import SupervisedLoss
from components.training.parts import parts_of
from tests.workspace import prepare_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, one_rank: None) -> Iterator[tuple[Path, Params]]:
    folder = tmp_path_factory.mktemp("workspace")
    before = Path.cwd()
    os.chdir(folder)
    params = prepare_workspace(folder, training__workers=1)
    yield folder, params
    os.chdir(before)


@pytest.fixture
def job(workspace: tuple[Path, Params]) -> Job:
    _, params = workspace
    return stage.make_job("pretrain", params, params.pretrain, None, None)


def read(job: Job) -> dict[str, Any]:
    (last,) = sorted((job.folder / "checkpoints").iterdir())[-1:]
    return {name: load_file(last / f"{name}.safetensors") for name in ("weights", "exp_avg", "exp_avg_sq")}


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_interrupted_run_ends_as_the_uninterrupted_one(job: Job, at: int) -> None:
    train(job)
    calm, calm_metrics = read(job), (job.folder / METRICS_FILE).read_bytes()
    shutil.rmtree(job.folder)

    train_until(job, at)
    train(job)
    stormy = read(job)
    assert (job.folder / METRICS_FILE).read_bytes() == calm_metrics
    for kind, tensors in calm.items():
        for name, tensor in tensors.items():
            assert torch.equal(stormy[kind][name], tensor), f"{kind} {name}"


def test_loss_falls_and_every_step_is_reported(job: Job) -> None:
    train(job)
    lines = read_journal(job.folder / METRICS_FILE)
    assert [line["step"] for line in lines] == list(range(1, lines[-1]["of"] + 1))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert 0 <= lines[0]["padding_share"] < 1


@pytest.mark.parametrize("file", ["connector.safetensors", "model.json"])
def test_noise_in_a_finished_run_s_parts_is_noticed_and_not_exported(job: Job, file: str, tmp_path: Path) -> None:
    train(job)
    parts = parts_of(job)
    assert parts is not None
    whole = model_digest(parts)
    noise = bytearray((parts / file).read_bytes())
    noise[len(noise) // 2] ^= 1
    (parts / file).write_bytes(noise)
    with pytest.raises(AssertionError):
        stage.export(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    train(job)  # from the last checkpoint
    stage.export(job, tmp_path / "out")
    assert model_digest(tmp_path / "out") == whole


def test_parts_of_a_run_that_was_killed_while_it_wrote_them_are_none(job: Job) -> None:
    train(job)
    (job.folder / "parts.sha256").unlink()
    assert parts_of(job) is None


def test_run_name_depends_on_the_libraries_that_compute(
    workspace: tuple[Path, Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, params = workspace
    here = stage.make_job("pretrain", params, params.pretrain, None, None).folder.name
    monkeypatch.setattr("components.imports.version", lambda name: "0.0.1" if name == "torch" else "1")
    assert stage.make_job("pretrain", params, params.pretrain, None, None).folder.name != here


def test_finished_run_trains_nothing_more(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    train(job)
    monkeypatch.setattr(loop, "start_engine", lambda *_: pytest.fail("trained again"))
    met: list[bool] = []
    monkeypatch.setattr(loop.dist, "barrier", lambda: met.append(job.folder.exists()))
    train(job)
    assert met  # before the first to be done removes what the others still read


def test_micro_batches_do_not_change_what_is_learnt(workspace: tuple[Path, Params], tmp_path: Path) -> None:
    _, params = workspace
    ends = []
    for micro_batch in (2, 8):
        training = params.training.model_copy(update={"micro_batch": micro_batch})
        one = stage.make_job("pretrain", params.model_copy(update={"training": training}), params.pretrain, None, None)
        one = Job(**{**vars(one), "folder": tmp_path / str(micro_batch)})
        train(one)
        ends.append(read(one)["weights"])
    for name, tensor in ends[0].items():
        assert torch.allclose(ends[1][name], tensor, atol=2e-4), name


def test_balance_loss_evens_out_the_experts_and_is_reported(workspace: tuple[Path, Params]) -> None:
    _, params = workspace

    def trained(weight: float, **training: Any) -> Job:
        moe = params.adapter.lora_moe.model_copy(update={"balance_loss": weight, "num_experts": 2})
        adapter = params.adapter.model_copy(update={"kind": "lora_moe", "lora_moe": moe})
        changed = params.model_copy(update={"training": params.training.model_copy(update=training)})
        return stage.make_job("finetune", changed, params.finetune, adapter, None)

    off, on = trained(0), trained(30.0)
    for job in (off, on):
        train(job)
    assert "balance_loss" not in read_journal(off.folder / METRICS_FILE)[0]
    message = [line["balance_loss"] for line in read_journal(on.folder / METRICS_FILE)]
    assert message[0] > message[-1] >= 0.99  # 1 is even
    assert off.folder == trained(0, micro_batch=1).folder
    assert on.folder != trained(30.0, micro_batch=1).folder  # measured over each micro-batch


def test_too_short_length_stops_the_run_with_advice(workspace: tuple[Path, Params]) -> None:
    _, params = workspace
    recipe = params.finetune.model_copy(update={"max_length": 20, "epochs": 20})
    short = stage.make_job("finetune", params, recipe, params.adapter, None)
    with pytest.raises(UserError, match="raise max_length"):
        train(short)


def test_one_step_that_is_all_warm_up_is_said_to_learn_nothing(
    workspace: tuple[Path, Params], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, params = workspace
    monkeypatch.setattr(stage, "sync_training", lambda *_, **__: None)
    for warmup, said in ((0.03, True), (0.0, False)):
        recipe = params.pretrain.model_copy(update={"global_batch": 1000, "epochs": 1, "warmup": warmup})
        job = stage.run_training("pretrain", params, recipe, None, None, None, lambda one, **_: train(one))
        assert ("nothing is learnt; set pretrain.warmup 0" in capsys.readouterr().out) is said
        moments = read(job)["exp_avg"].values()
        assert any(moment.abs().sum() > 0 for moment in moments)  # a gradient there was


def test_run_name_depends_on_what_is_learnt_and_not_on_how(workspace: tuple[Path, Params]) -> None:
    _, params = workspace

    def name(**training: Any) -> str:
        changed = params.model_copy(update={"training": params.training.model_copy(update=training)})
        return stage.make_job("pretrain", changed, changed.pretrain, None, None).folder.name

    assert name() == name(workers=4, zero_stage=3, micro_batch=1, threads_per_worker=2)
    assert name() != name(precision="bf16")
    slower = params.pretrain.model_copy(update={"epochs": 5})
    assert stage.make_job("pretrain", params, slower, None, None).folder.name != name()


def test_job_survives_the_way_to_a_worker(workspace: tuple[Path, Params]) -> None:
    _, params = workspace
    for recipe, adapter in ((params.pretrain, None), (params.finetune, params.adapter)):
        one = stage.make_job("x", params, recipe, adapter, None)
        assert from_message(to_message(one)) == one
        watched = Job(**{**vars(one), "validation": Validation(every_steps=3, max_samples=5)})
        assert from_message(to_message(watched)) == watched
        assert run_digest(watched) == run_digest(one)
        bolder = one.training.model_copy(update={"spike": 1.5})  # with bad_step skip, other steps are learnt from
        assert run_digest(Job(**{**vars(one), "training": bolder})) != run_digest(one)


def test_target_that_matches_nothing_is_reported_before_a_step_is_done(
    workspace: tuple[Path, Params], tmp_path: Path
) -> None:
    _, params = workspace
    adapter = params.adapter.model_copy(update={"targets": ["q_porj"]})
    one = stage.make_job("pretrain", params, params.pretrain, adapter, None)
    with pytest.raises(UserError, match="'q_porj' matches no layer of the language model; near names: q_proj"):
        train(Job(**{**vars(one), "folder": tmp_path / "run"}))


def test_bad_step_stops_the_run_and_names_the_samples(
    workspace: tuple[Path, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, params = workspace
    one = stage.make_job("pretrain", params, params.pretrain, None, None)
    one = Job(**{**vars(one), "folder": tmp_path / "run"})
    poison(monkeypatch, at=4)
    with pytest.raises(UserError, match=r"step 4: the loss is nan \(samples captions/.*bad_step to skip"):
        train(one)
    assert newest_intact(tmp_path / "run" / "checkpoints") == 3  # what was learnt before is saved


def test_full_gpu_ends_in_what_needs_less(
    workspace: tuple[Path, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, params = workspace
    one = stage.make_job("pretrain", params, params.pretrain, None, None)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..")

    monkeypatch.setattr(loop, "train_step", full)
    with pytest.raises(UserError, match=r"full \(CUDA out .* 2.00 GiB\); lower .*micro_batch"):
        train(Job(**{**vars(one), "folder": tmp_path / "run"}))


@pytest.mark.parametrize("zero_stage", [0, 2, 3])
def test_skipped_step_changes_no_weight_and_the_run_can_be_resumed(
    workspace: tuple[Path, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zero_stage: int
) -> None:
    _, params = workspace
    training = params.training.model_copy(update={"bad_step": "skip", "zero_stage": zero_stage})
    changed = params.model_copy(update={"training": training})
    ends = []
    for name, interrupted in (("calm", False), ("stormy", True)):
        one = stage.make_job("pretrain", changed, params.pretrain, None, None)
        one = Job(**{**vars(one), "folder": tmp_path / name})
        with monkeypatch.context() as patch:
            poison(patch, at=2)
            if interrupted:
                train_until(one, 3)
            train(one)
        lines = read_journal(one.folder / METRICS_FILE)
        assert [line["step"] for line in lines if line["skipped"]] == [2]
        (skipped,) = read_journal(one.folder / SKIPPED_FILE)
        assert skipped["samples"].startswith("captions/")
        ends.append((read(one), lines))
    (calm, calm_lines), (stormy, stormy_lines) = ends
    assert calm_lines == stormy_lines
    for kind, tensors in calm.items():
        for name, tensor in tensors.items():
            assert tensor.isfinite().all(), name
            assert torch.equal(stormy[kind][name], tensor), f"{kind} {name}"


def test_every_zero_stage_tells_the_norm_of_the_gradient(workspace: tuple[Path, Params], tmp_path: Path) -> None:
    _, params = workspace
    norms = []
    for zero_stage in (0, 2):
        training = params.training.model_copy(update={"zero_stage": zero_stage})
        changed = params.model_copy(update={"training": training})
        one = stage.make_job("finetune", changed, params.finetune, params.adapter, None)
        one = Job(**{**vars(one), "folder": tmp_path / str(zero_stage)})
        train(one)
        norms.append([line["grad_norm"] for line in read_journal(one.folder / METRICS_FILE)])
    assert norms[0][0] > 0
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


MOE = {"num_experts": 2}
ADAPTERS = {
    "lora": {},
    "dual_lora": {},
    "rode": {},
    "lora_moe": MOE,
    "lora_moe, balanced": {**MOE, "balance_loss": 0.5},
    "lora_moe, top-k, balanced": {**MOE, "routing": "top_k", "top_k": 2, "balance_loss": 0.5},
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_activation_checkpointing_learns_the_same(workspace: tuple[Path, Params], tmp_path: Path, kind: str) -> None:
    _, params = workspace
    moe = params.adapter.lora_moe.model_copy(update=ADAPTERS[kind])
    rode = params.adapter.rode.model_copy(update={"rank_shares": [1, 1]})
    adapter = params.adapter.model_copy(update={"kind": kind.partition(",")[0], "lora_moe": moe, "rode": rode})
    ends = []
    for again in (False, True):
        training = params.training.model_copy(update={"activation_checkpointing": again})
        changed = params.model_copy(update={"training": training})
        one = stage.make_job("finetune", changed, params.finetune, adapter, None)
        one = Job(**{**vars(one), "folder": tmp_path / str(again)})
        train(one)
        ends.append(read(one)["weights"])
    for name, tensor in ends[0].items():
        assert torch.allclose(ends[1][name], tensor, atol=1e-5), name


def test_damaged_checkpoint_costs_its_steps_and_nothing_else(job: Job) -> None:
    often = job.training.model_copy(update={"checkpoint_every_steps": 1})
    job = Job(**{**vars(job), "training": often})
    shutil.rmtree(job.folder, ignore_errors=True)
    train(job)
    calm, calm_metrics = read(job), (job.folder / METRICS_FILE).read_bytes()
    shutil.rmtree(job.folder)
    train_until(job, 4)
    _, newest = checkpoints(job.folder / "checkpoints")
    (newest / "exp_avg.safetensors").write_bytes(b"damage")
    train(job)
    assert (job.folder / METRICS_FILE).read_bytes() == calm_metrics
    stormy = read(job)
    assert all(torch.equal(stormy[kind][name], tensor) for kind in calm for name, tensor in calm[kind].items())


def test_watched_run_learns_what_the_unwatched_one_does(job: Job, tmp_path: Path) -> None:
    runs = {watched: Job(**{**vars(job), "folder": tmp_path / str(watched)}) for watched in (False, True)}
    train(runs[False])
    train(Job(**{**vars(runs[True]), "validation": Validation(every_steps=2, max_samples=0)}))
    for kind, tensors in read(runs[False]).items():
        for name, tensor in tensors.items():
            assert torch.equal(read(runs[True])[kind][name], tensor), f"{kind} {name}"
    one, two = ((run.folder / METRICS_FILE).read_bytes() for run in runs.values())
    assert one == two
    lines = read_journal(runs[True].folder / VALIDATION_FILE)
    steps = lines[-1]["of"]
    assert [line["step"] for line in lines] == sorted({*range(2, steps + 1, 2), steps})
    assert lines[-1]["epoch"] == job.recipe.epochs
    assert lines[-1]["validation_loss"] < lines[0]["validation_loss"]


def test_run_that_was_finished_unwatched_is_measured_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    train(job)
    watched = Job(**{**vars(job), "validation": Validation(every_steps=2, max_samples=0)})
    train(watched)
    (line,) = read_journal(job.folder / VALIDATION_FILE)
    assert line["step"] == line["of"]
    monkeypatch.setattr(loop, "start_engine", lambda *_: pytest.fail("measured again"))
    train(watched)


def test_validation_loss_does_not_depend_on_micro_batches(job: Job, tmp_path: Path) -> None:
    train(job)
    losses = []
    for micro_batch in (1, 7):
        again = tmp_path / str(micro_batch)
        shutil.copytree(job.folder, again)
        (again / VALIDATION_FILE).unlink(missing_ok=True)
        training = job.training.model_copy(update={"micro_batch": micro_batch})
        train(Job(**{**vars(job), "folder": again, "training": training, "validation": Validation(2, 0)}))
        losses += [line["validation_loss"] for line in read_journal(again / VALIDATION_FILE)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def train_until(job: Job, at: int) -> None:
    """Train until Ctrl-C comes, right after a step was written down."""
    write = Journal.write

    def interrupted(self: Any, learnt: dict[str, Any], *more: Any) -> None:
        write(self, learnt, *more)
        if learnt["step"] == at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(job)


def poison(patch: pytest.MonkeyPatch, at: int) -> None:
    """Make the loss of a step (counted from 1) no number."""
    forward, seed_of, now = SupervisedLoss.forward, loop.hash_of, {"step": 0}

    def watched(seed: int, done: int, rank: int) -> int:
        now["step"] = done + 1
        return seed_of(seed, done, rank)

    def poisoned(self: Any, *inputs: Any) -> Any:
        return forward(self, *inputs) * (float("nan") if now["step"] == at else 1.0)

    patch.setattr(loop, "hash_of", watched)
    patch.setattr(SupervisedLoss, "forward", poisoned)


@pytest.mark.parametrize("language_model", [pytest.param("frozen", marks=pytest.mark.slow), "trained"])
def test_images_as_weights_go_through_both_stages(workspace: tuple[Path, Params], language_model: str) -> None:
    folder, params = workspace
    connector = params.connector.model_copy(update={"kind": "vlora"})
    params = params.model_copy(update={"connector": connector})
    first, second = folder / "vlora-1", folder / f"vlora-2-{language_model}"
    one = stage.make_job("pretrain", params, params.pretrain, None, None)
    train(one)
    stage.export(one, first)
    recipe = params.finetune.model_copy(update={"language_model": language_model})
    adapter = params.adapter if language_model == "frozen" else None
    two = stage.make_job("finetune", params, recipe, adapter, first)
    train(two)
    stage.export(two, second)

    lines = read_journal(one.folder / METRICS_FILE)
    assert lines[-1]["loss"] < lines[0]["loss"]
    held = {path.name for path in second.iterdir()}
    learnt = "adapter" if adapter else "language_model.safetensors"
    assert held == {"connector.safetensors", "model.json", "log.csv", "validation.csv", learnt}
    assistant = load_assistant(folder / "models" / "base", second)
    trained = read(two)["weights"]
    own = dict(assistant.model.named_parameters())
    assert len(trained) > 20
    for name, tensor in trained.items():
        assert torch.equal(own[name], tensor), name
    assert assistant.num_image_tokens == 0
