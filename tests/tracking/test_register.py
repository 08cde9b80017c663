"""The stage `register` on a real sqlite registry, with small files for weights."""

import json
import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from components.errors import UserError
from components.files import write_json
from components.tracking import bases, promotion, registry, store
from pipelines import register


def aliases(workspace) -> dict[str, int]:
    return registry.aliases(store.connect(), "lea")


def num_versions() -> int:
    return len(store.connect().search_model_versions("name = 'lea'"))


def test_first_model_becomes_candidate_and_champion(workspace):
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 1, "champion": 1}
    written = workspace.registration()
    assert written["aliases"] == ["candidate", "champion"]
    assert written["gate"]["passed"] is True
    [line] = workspace.promotions()
    assert (line["from"], line["to"], line["source"], line["metrics"]) == (None, 1, "repro", {"ingredients.iou": 0.8})


def test_second_run_changes_nothing(workspace):
    register.run(workspace.params)
    first = workspace.registration()
    register.run(workspace.params)
    assert workspace.registration() == first
    assert num_versions() == 1
    assert len(workspace.promotions()) == 1


def test_version_holds_parts_and_reference_but_no_base_weights_and_no_pickle(workspace):
    register.run(workspace.params)
    [folder] = (workspace.root / "home/mlflow/artifacts/models").iterdir()
    files = {path.relative_to(folder / "artifacts").as_posix() for path in folder.rglob("*") if path.is_file()}
    held = {name for name in files if name.startswith("artifacts/")}
    assert held == {
        "artifacts/parts/model.json",
        "artifacts/parts/connector.safetensors",
        "artifacts/parts/adapter/adapter_config.json",
        "artifacts/parts/adapter/adapter_model.safetensors",
        "artifacts/base/base.json",
        "artifacts/serving.json",
        "artifacts/base/tokenizer.json",
    }
    assert "code/components/tracking/bases.py" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".bin"))]
    tags = store.connect().get_model_version("lea", "1").tags
    assert tags["lea.model"] == workspace.registration()["model"]
    assert json.loads(tags["lea.metrics"]) == {"ingredients.iou": 0.8}


def test_better_model_takes_over_and_a_cached_run_brings_the_first_back(workspace):
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.81)
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 2, "champion": 2}
    workspace.train("a")  # params changed back: DVC restores the outputs
    workspace.measure(0.8)
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 1, "champion": 1}
    assert num_versions() == 2
    assert [(line["from"], line["to"]) for line in workspace.promotions()] == [(None, 1), (1, 2), (2, 1)]


def test_worse_model_stays_candidate_and_is_logged_once(workspace, capsys):
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.72)  # above the threshold, 0.08 below the champion
    register.run(workspace.params)
    first = workspace.registration()
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 2, "champion": 1}
    assert workspace.registration() == first
    assert first["gate"]["passed"] is False
    assert [line["passed"] for line in workspace.promotions()] == [True, False]
    assert "the gate refused version 2; champion: 1" in capsys.readouterr().out


def test_champion_on_other_data_is_not_compared(workspace):
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.72, data="second")
    register.run(workspace.params)
    assert aliases(workspace)["champion"] == 2


def test_model_below_the_threshold_makes_no_champion(workspace):
    workspace.measure(0.5)
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 1}
    assert workspace.registration()["gate"]["reasons"][0] == "failed: ingredients.iou 0.5 must be at least 0.7"


def test_experiment_registers_a_candidate_only(workspace, monkeypatch):
    register.run(workspace.params)
    monkeypatch.setenv("DVC_EXP_NAME", "pale-moth")
    workspace.train("b")
    workspace.measure(0.95)
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 2, "champion": 1}


def test_evaluating_anew_updates_the_metrics_of_the_version(workspace):
    register.run(workspace.params)
    workspace.measure(0.9)
    register.run(workspace.params)
    assert num_versions() == 1
    assert registry.version_metrics(store.connect().get_model_version("lea", "1")) == {"ingredients.iou": 0.9}


def test_promote_goes_through_the_gate_unless_forced(workspace):
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.72)
    register.run(workspace.params)
    gate = workspace.params.registry.gate
    refused = promotion.promote("lea", "candidate", gate)
    assert (refused.passed, refused.moved, aliases(workspace)["champion"]) == (False, False, 1)
    forced = promotion.promote("lea", "2", gate, force=True)
    assert (forced.passed, forced.moved, aliases(workspace)["champion"]) == (False, True, 2)
    line = workspace.promotions()[-1]
    assert (line["source"], line["passed"], line["moved"]) == ("promote", False, True)
    assert line["reason"].endswith("moved by force")


def test_unknown_version_is_refused_with_what_there_is(workspace):
    with pytest.raises(UserError, match=r"no model 'lea'.*run: dvc repro"):
        promotion.promote("lea", "champion", workspace.params.registry.gate)
    register.run(workspace.params)
    for which in ("chmpion", "7"):
        with pytest.raises(UserError, match=rf"no version or alias '{which}'.*aliases candidate, champion"):
            promotion.promote("lea", which, workspace.params.registry.gate)


def test_log_line_that_cannot_be_written_keeps_the_champion(workspace):
    (workspace.root / "home/promotions.jsonl").mkdir()
    with pytest.raises(UserError, match=r"promotions\.jsonl"):
        register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 1}


def test_parts_of_another_base_are_refused(workspace):
    reference = json.loads((workspace.base / "base.json").read_text())
    write_json(workspace.base / "base.json", {**reference, "digest": "0" * 64})
    with pytest.raises(UserError, match="another base"):
        register.run(workspace.params)


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("evaluation/metrics.json", "dvc repro evaluate"),
        ("models/finetune/model.json", "dvc repro finetune"),
        ("models/base/base.json", "dvc repro base"),
        ("data/prepared/unifood/manifest.json", "dvc repro prepare"),
    ],
)
def test_missing_file_is_told_with_the_command_that_makes_it(workspace, missing, command):
    (workspace.root / missing).unlink()
    with pytest.raises(UserError, match=f"{Path(missing)} is missing; run: {command}"):
        register.run(workspace.params)


def test_server_that_is_away_is_told_in_one_line(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{closed_port()}")
    with pytest.raises(UserError, match=r"connection refused; .* or unset MLFLOW_TRACKING_URI") as told:
        register.run(workspace.params)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_two_processes_make_one_version(workspace):
    store.connect()
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_register_here, args=(str(workspace.root), workspace.params)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert num_versions() == 1


def test_base_is_found_where_it_was_registered_and_refused_when_changed(workspace, monkeypatch, tmp_path):
    register.run(workspace.params)
    reference = json.loads((workspace.base / "base.json").read_text())
    kept = workspace.root / "home/bases" / reference["digest"]
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "elsewhere"))
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    assert bases.find(reference, [str(kept)]) == kept
    with pytest.raises(UserError, match="not on this machine; set LEA_BASE"):
        bases.find(reference, [])
    monkeypatch.setenv("LEA_BASE", str(kept))
    assert bases.find(reference, []) == kept
    (kept / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"LEA_BASE: .* holds other files"):
        bases.find(reference, [])


def test_checkpoint_stays_where_it_is_and_gives_its_processor(workspace):
    checkpoint = workspace.root / "checkpoint"
    workspace.base.rename(checkpoint)
    (checkpoint / "base.json").unlink()
    (checkpoint / "tokenizer.json").write_text('{"of": "the checkpoint"}')
    digest = bases.base_digest(checkpoint, "checkpoint")
    reference = {"kind": "checkpoint", "id": "checkpoint", "revision": None, "digest": digest}
    write_json(workspace.base / "base.json", reference)
    workspace.train("a")
    register.run(workspace.params)
    assert not (workspace.root / "home/bases").exists()
    [held] = (workspace.root / "home/mlflow/artifacts").rglob("artifacts/base/tokenizer.json")
    assert "the checkpoint" in held.read_text()
    [serving] = (workspace.root / "home/mlflow/artifacts").rglob("artifacts/serving.json")
    assert bases.find(reference, json.loads(serving.read_text())["copies"]) == checkpoint


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _register_here(root: str, params) -> None:
    os.chdir(root)
    registry.register(Path("models/finetune"), Path("models/base"), {"ingredients.iou": 0.8}, params, {"unifood": "x"})
