"""The stages one after the other, with real Ray workers, DeepSpeed and MLflow, on a few drawn dishes."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from components.errors import UserError
from components.params import Params
from components.serving.predict import predict
from components.tracking import records, registry, store
from components.training import worker
from components.training.stage import make_job
from components.workspace import home
from pipelines import evaluate, finetune, pretrain, register, report
from tests.workspace import prepare_workspace


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Params]:
    """A workspace in which every stage has run once; it is the current folder, with a home of its own."""
    folder = tmp_path_factory.mktemp("pipeline")
    before = Path.cwd()
    os.chdir(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEA_HOME", str(folder / "home"))
        params = prepare_workspace(folder)
        for stage in (pretrain, finetune, evaluate, register, report):
            stage.run(params)
        yield params
    os.chdir(before)


@pytest.fixture(autouse=True)
def same_home(done: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_HOME", str(Path.cwd() / "home"))


def test_each_stage_leaves_what_the_next_reads(done: Params) -> None:
    for path in (
        "models/pretrain/connector.safetensors",
        "models/finetune/adapter/adapter_model.safetensors",
        "models/finetune/log.csv",
        "evaluation/metrics.json",
        "report/report.html",
        "report/report.md",
    ):
        assert Path(path).stat().st_size > 0, path


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_training_stages_measure_held_out_samples(done: Params, stage: str) -> None:
    with Path("models", stage, "validation.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    with Path("models", stage, "log.csv").open(encoding="utf-8", newline="") as stream:
        last = list(csv.DictReader(stream))[-1]["step"]
    assert lines
    assert lines[-1]["step"] == last
    assert all(float(line["validation_loss"]) > 0 for line in lines)


def test_only_trainable_tensors_are_stored(done: Params) -> None:
    from safetensors import safe_open

    with safe_open("models/finetune/connector.safetensors", "pt") as file:
        assert {name.partition(".")[0] for name in file.keys()} == {"projector", "vce"}  # noqa: SIM118
    with safe_open("models/finetune/adapter/adapter_model.safetensors", "pt") as file:
        assert all("dual_lora_" in name for name in file.keys())  # noqa: SIM118


def test_metrics_hold_every_row(done: Params) -> None:
    metrics = json.loads(Path("evaluation/metrics.json").read_text(encoding="utf-8"))
    assert {"base", "pretrain", "finetune", "blind", "mean"} <= metrics.keys()


def test_model_is_champion_and_registered_once(done: Params) -> None:
    before = Path("registration.json").read_bytes()
    register.run(done)
    assert Path("registration.json").read_bytes() == before
    client = store.connect()
    assert registry.aliases(client, "lea") == {"candidate": 1, "champion": 1}
    assert len(client.search_model_versions("name = 'lea'")) == 1


def test_experiment_registers_a_candidate_only(done: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "another"))
    monkeypatch.setenv("DVC_EXP_NAME", "odd-hare")
    monkeypatch.setattr(register, "REGISTRATION", tmp_path / "registration.json")
    register.run(done)
    assert registry.aliases(store.connect(), "lea") == {"candidate": 1}


def test_champion_is_measured_again_when_the_settings_change(
    done: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another model, asked for fewer tokens: both are then compared under these settings, the first's figures stay."""
    client = store.connect()
    before = client.get_model_version("lea", "1").tags
    held = [Path("models/finetune"), Path("evaluation"), Path("registration.json")]
    for path in held:
        shutil.copytree(path, tmp_path / path.name) if path.is_dir() else shutil.copy(path, tmp_path)
    try:
        _disturb(Path("models/finetune/connector.safetensors"))
        short = done.model_copy(update={"evaluate": done.evaluate.model_copy(update={"max_new_tokens": 2})})
        with pytest.raises(UserError, match="models/finetune has changed since it was evaluated"):
            register.run(short)
        evaluate.run(short)
        register.run(short)
        tags = client.get_model_version("lea", "1").tags
        assert {name: tags[name] for name in before} == before
        own, again = records.each(client.get_model_version("lea", "1"))
        assert again.by == "gate"
        assert again.conditions["settings"]["evaluate.max_new_tokens"] == "2"
        assert again.figures.keys() == own.figures.keys()
        outcome = json.loads(Path("registration.json").read_text(encoding="utf-8"))
        assert outcome["version"] == 2
        assert not [reason for reason in outcome["gate"]["reasons"] if "not comparable" in reason]
    finally:
        for path in held:
            kept = tmp_path / path.name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            shutil.copytree(kept, path) if kept.is_dir() else shutil.copy(kept, path)
        for alias in ("champion", "candidate"):
            client.set_registered_model_alias("lea", alias, "1")


def _disturb(file: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    save_file({name: tensor * 1.25 for name, tensor in tensors.items()}, file)


def test_champion_answers(done: Params, tmp_path: Path) -> None:
    image = tmp_path / "dish.png"
    Image.new("RGB", (40, 30), "orange").save(image)
    assert isinstance(predict("models:/lea@champion", image, "What is this?"), str)


def test_finished_stage_is_found_done(
    done: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("models/pretrain/connector.safetensors").read_bytes()
    monkeypatch.setattr("components.training.stage.launch", lambda *_, **__: pytest.fail("trained again"))
    pretrain.run(done)
    assert "already done" in capsys.readouterr().out
    assert Path("models/pretrain/connector.safetensors").read_bytes() == before


def test_changed_adapter_is_another_run_and_the_same_pretraining(done: Params) -> None:
    changed = done.model_copy(update={"adapter": done.adapter.model_copy(update={"rank": 4})})
    start = Path("models/pretrain")
    first = make_job("finetune", done, done.finetune, done.adapter, start)
    second = make_job("finetune", changed, changed.finetune, changed.adapter, start)
    assert first.folder != second.folder
    assert first.folder.exists()
    one, two = (make_job("pretrain", p, p.pretrain, None, None) for p in (done, changed))
    assert one.folder == two.folder


@pytest.mark.slow
def test_mistake_that_only_a_worker_sees_is_reported_once_and_not_tried_again(done: Params) -> None:
    short = done.model_copy(update={"finetune": done.finetune.model_copy(update={"max_length": 40})})
    with pytest.raises(UserError, match=r"have no token to learn from within max_length 40"):
        finetune.run(short)
    job = make_job("finetune", short, short.finetune, short.adapter, Path("models/pretrain"))
    worker.work(worker.message(job, None))  # a worker that Ray starts again: reads the mistake and exits
    shutil.rmtree(job.folder)


def test_metrics_of_both_stages_are_tracked(done: Params) -> None:
    client = store.connect()
    runs = client.search_runs([store.experiment_id(client)])
    losses = {run.info.run_name: len(client.get_metric_history(run.info.run_id, "loss")) for run in runs}
    for stage in ("pretrain", "finetune"):
        folder = next((home() / "runs").glob(f"{stage}-*"))
        assert losses[stage] == len((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
