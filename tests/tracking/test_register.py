"""The stage `register` on a real sqlite registry, with small files for weights."""

import json
import multiprocessing
import os
import socket
from pathlib import Path

import pytest

from components.errors import UserError
from components.files import write_json
from components.params import validate_params
from components.tracking import bases, promotion, promotion_log, records, registry, store
from components.tracking.gate import EMPTY
from pipelines import evaluate, register


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


def test_champion_on_other_questions_is_never_passed_over(workspace):
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.72, questions="second")
    register.run(workspace.params)  # no shards here: the champion cannot be measured again
    assert aliases(workspace) == {"candidate": 2, "champion": 1}
    [reason] = [one for one in workspace.registration()["gate"]["reasons"] if "not comparable" in one]
    assert "the questions of unifood" in reason
    assert "it cannot be measured again" in reason


@pytest.mark.parametrize(("again", "champion"), [(0.95, 1), (0.74, 2)])
def test_champion_is_measured_again_under_the_candidates_conditions(workspace, monkeypatch, again, champion):
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.75, tokens=6)
    seen = []

    def measure_again(params, base, parts, like):
        reference = json.loads((base / "base.json").read_text())
        seen.append((like["settings"], (parts / "connector.safetensors").read_text(), reference["digest"]))
        return {"ingredients": {"iou": again}}

    monkeypatch.setattr(evaluate, "measure_again", measure_again)
    register.run(workspace.params)
    register.run(workspace.params)
    digest = json.loads((workspace.base / "base.json").read_text())["digest"]
    assert seen == [({"evaluate.max_new_tokens": "6"}, "connector a", digest)]
    assert aliases(workspace)["champion"] == champion
    version = store.connect().get_model_version("lea", "1")
    assert registry.version_metrics(version) == {"ingredients.iou": 0.8}
    assert [(one.by, one.figures["ingredients.iou"]) for one in records.each(version)] == [
        ("evaluate", 0.8),
        ("gate", again),
    ]


def test_damaged_champion_is_not_measured_again(workspace, monkeypatch):
    register.run(workspace.params)
    [held] = (workspace.root / "home/mlflow/artifacts").rglob("artifacts/parts/connector.safetensors")
    held.unlink()
    held.write_text("zeros")
    workspace.train("b")
    workspace.measure(0.75, tokens=6)
    monkeypatch.setattr(evaluate, "measure_again", lambda *_: pytest.fail("measured"))
    register.run(workspace.params)
    assert aliases(workspace)["champion"] == 1
    assert any(
        "files of lea version 1 are missing or damaged" in r for r in workspace.registration()["gate"]["reasons"]
    )


def test_champions_do_not_drift(workspace):
    for weights, iou in (("a", 0.83), ("b", 0.82), ("c", 0.81), ("d", 0.79)):
        workspace.train(weights)
        workspace.measure(iou)
        register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 4, "champion": 3}
    assert workspace.registration()["gate"]["reasons"][0] == (
        "failed: ingredients.iou 0.79 may be at most 0.03 worse than that of version 1, champion before: 0.83"
    )
    tree = workspace.params.model_dump()
    tree["registry"]["gate"]["compare_with"] = "champion"
    register.run(validate_params(tree))
    assert aliases(workspace)["champion"] == 4


def test_a_champion_on_easier_questions_hides_no_better_one(workspace, monkeypatch):
    """0.99 was the best figure and is worth 0.5 here; the one to beat is the champion with 0.83."""
    truth = {"connector a": 0.5, "connector b": 0.83, "connector c": 0.81}

    def measure_again(params, base, parts, like):
        return {"ingredients": {"iou": truth[(parts / "connector.safetensors").read_text()]}}

    monkeypatch.setattr(evaluate, "measure_again", measure_again)
    for weights, iou, questions in (("a", 0.99, "easy"), ("b", 0.83, "hard"), ("c", 0.81, "hard"), ("d", 0.79, "new")):
        workspace.train(weights)
        workspace.measure(iou, questions=questions)
        register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 4, "champion": 3}
    assert workspace.registration()["gate"]["reasons"][0] == (
        "failed: ingredients.iou 0.79 may be at most 0.03 worse than that of version 2, champion before: 0.83"
    )


def test_model_changed_after_its_evaluation_is_refused(workspace):
    (workspace.parts / "connector.safetensors").write_text("another connector")
    with pytest.raises(
        UserError, match=r"^models/finetune has changed since it was evaluated; run: dvc repro evaluate$"
    ):
        register.run(workspace.params)
    assert num_versions() == 0


def test_edited_metrics_are_refused(workspace):
    path = workspace.root / "evaluation/metrics.json"
    path.write_text(path.read_text().replace("0.8", "0.9"))
    with pytest.raises(UserError, match="is not what the evaluation wrote; run: dvc repro -sf evaluate"):
        register.run(workspace.params)


@pytest.mark.parametrize("value", [float("nan"), None])
def test_metric_that_is_no_number_makes_no_champion(workspace, value):
    workspace.measure(value)
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 1}
    assert "ingredients.iou was not measured, or is not a number" in workspace.registration()["gate"]["reasons"][0]


def test_empty_gate_makes_no_champion_and_force_gives_the_reason(workspace, capsys):
    tree = workspace.params.model_dump()
    tree["registry"]["gate"] = {"at_least": {}, "at_most": {}, "not_worse": {}}
    params = validate_params(tree)
    register.run(params)
    assert aliases(workspace) == {"candidate": 1}
    assert workspace.registration()["gate"] == {"passed": None, "reasons": [EMPTY]}
    printed = capsys.readouterr().out
    assert EMPTY in printed
    assert "version 1 was not judged" in printed
    promotion.promote("lea", "1", params.registry.gate, force=True)
    assert [(line["moved"], line["reason"]) for line in workspace.promotions()] == [
        (False, EMPTY),
        (True, f"{EMPTY}; moved by force"),
    ]


def test_model_that_does_not_use_its_image_makes_no_champion(workspace):
    tree = workspace.params.model_dump()
    tree["registry"]["gate"]["better_than_blind"] = {"ingredients.iou": 0.1}
    workspace.measure(0.8, blind=0.75)
    register.run(validate_params(tree))
    assert aliases(workspace) == {"candidate": 1}
    assert "better than 0.75 with the images of other questions" in workspace.registration()["gate"]["reasons"][0]


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


def test_experiment_with_other_settings_leaves_the_champions_figures(workspace, monkeypatch):
    register.run(workspace.params)
    before = store.connect().get_model_version("lea", "1").tags
    monkeypatch.setenv("DVC_EXP_NAME", "pale-moth")
    workspace.measure(0.645, tokens=6)
    register.run(workspace.params)
    after = store.connect().get_model_version("lea", "1").tags
    assert {key: after[key] for key in before} == before
    [further] = after.keys() - before.keys()
    assert further.startswith("lea.experiment.")
    monkeypatch.delenv("DVC_EXP_NAME")
    workspace.train("b")
    workspace.measure(0.75)
    register.run(workspace.params)
    assert aliases(workspace)["champion"] == 1  # 0.05 worse than 0.8, whatever the experiment found


def test_figures_are_written_once(workspace):
    register.run(workspace.params)
    workspace.measure(0.9)
    register.run(workspace.params)
    assert num_versions() == 1
    version = store.connect().get_model_version("lea", "1")
    assert registry.version_metrics(version) == {"ingredients.iou": 0.8}
    assert [record.figures for record in records.each(version)] == [{"ingredients.iou": 0.8}]


def test_settings_mended_after_a_refusal_judge_anew(workspace):
    workspace.measure(0.5, tokens=6)
    register.run(workspace.params)
    assert "champion" not in aliases(workspace)
    workspace.measure(0.8)
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 1, "champion": 1}


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


def test_copy_of_the_log_that_cannot_be_written_is_reported_and_the_log_is_whole(workspace, capsys):
    (workspace.root / "home/promotions.jsonl").mkdir()
    register.run(workspace.params)
    assert aliases(workspace) == {"candidate": 1, "champion": 1}
    assert "promotions.jsonl cannot be written" in capsys.readouterr().out
    assert len(promotion_log.read(store.connect(), "lea").entries) == 1


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
        ("evaluation/measured.json", "dvc repro evaluate"),
    ],
)
def test_missing_file_is_reported_with_the_command_that_makes_it(workspace, missing, command):
    (workspace.root / missing).unlink()
    with pytest.raises(UserError, match=f"{Path(missing)} is missing; run: {command}"):
        register.run(workspace.params)


def test_server_that_is_away_is_reported_in_one_line(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:secret@127.0.0.1:{closed_port()}")
    with pytest.raises(UserError, match=r"connection refused; .* or unset MLFLOW_TRACKING_URI") as caught:
        register.run(workspace.params)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


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
    workspace.measure(0.8)
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
    registry.register(Path("models/finetune"), Path("models/base"), register.present_record(params), params)


def test_a_former_champion_that_is_evaluated_again_in_full_can_return(workspace, monkeypatch):
    """What the gate measured of it has no blind row and must not stand in the way."""
    tree = workspace.params.model_dump()
    tree["registry"]["gate"]["better_than_blind"] = {"ingredients.iou": 0.1}
    params = validate_params(tree)
    register.run(params)
    workspace.train("b")
    workspace.measure(0.83, tokens=6)
    monkeypatch.setattr(evaluate, "measure_again", lambda *_: {"ingredients": {"iou": 0.82}})
    register.run(params)
    workspace.train("a")
    workspace.measure(0.82, tokens=6)
    register.run(params)
    assert workspace.registration()["version"] == 1
    assert workspace.registration()["gate"]["passed"]
    assert promotion.promote("lea", "1", params.registry.gate, dry_run=True).passed


def test_what_is_stated_beside_the_figures_is_sealed_with_them(workspace):
    path = workspace.root / "evaluation/measured.json"
    stated = json.loads(path.read_text())
    write_json(path, {**stated, "sighted": {"ingredients": {"iou": 0.99}}})
    with pytest.raises(UserError, match="is not what the evaluation wrote"):
        register.run(workspace.params)
