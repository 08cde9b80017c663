import json
import socket
from typing import Any

import pytest

from components.errors import UserError
from components.tracking import runs, store
from components.tracking.runs import RunRecord, sync_training


@pytest.fixture
def record(workspace) -> RunRecord:
    folder = workspace.root / "run"
    folder.mkdir()
    write_steps(folder, 6)
    return RunRecord("finetune-abc", "finetune", {"adapter.rank": 8}, {"unifood": "f" * 64}, folder)


def write_steps(folder, count: int) -> None:
    learnt = [{"step": step, "loss": 1 / step, "note": "text", "odd": float("nan")} for step in range(1, count + 1)]
    took = [{"step": step, "time": 1.7e9 + step, "seconds": 0.5} for step in range(1, count + 1)]
    for name, lines in (("metrics.jsonl", learnt), ("timings.jsonl", took)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def sent() -> tuple[list[int], Any]:
    """Steps of the loss as the store has them, and the one run."""
    client = store.connect()
    [run] = client.search_runs([store.experiment_id(client)])
    return [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")], run


def test_steps_are_sent_as_far_as_a_checkpoint_covers_them(record):
    assert sync_training(record, through=4)
    steps, run = sent()
    assert steps == [1, 2, 3, 4]
    assert run.info.status == "RUNNING"
    assert sync_training(record, finished=True)
    steps, run = sent()
    assert steps == [1, 2, 3, 4, 5, 6]
    assert run.info.status == "FINISHED"
    assert run.data.metrics["seconds"] == 0.5
    assert "note" not in run.data.metrics


def test_sending_twice_sends_once(record):
    for _ in range(3):
        assert sync_training(record)
    assert sent()[0] == [1, 2, 3, 4, 5, 6]


def test_run_tells_params_data_and_origin(record, workspace):
    (workspace.root / "dvc.lock").write_text("lock")
    sync_training(record)
    _, run = sent()
    assert run.data.params == {"adapter.rank": "8"}
    assert run.data.tags["lea.data.unifood"] == "f" * 64
    assert run.data.tags["lea.dvc_lock"]
    assert run.data.tags["lea.torch"]
    [given] = run.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("unifood", "f" * 36)


def test_outage_is_one_line_and_the_next_call_sends_the_rest(record, monkeypatch, capsys):
    assert sync_training(record, through=2)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        assert not sync_training(record, through=4)
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "connection refused" in message
    assert sync_training(record)
    assert sent()[0] == [1, 2, 3, 4, 5, 6]


def test_finished_run_that_waits_is_sent_later_without_its_stage(record, monkeypatch):
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert not sync_training(record, finished=True)
    runs.send_missing(record.folder.parent)
    steps, run = sent()
    assert steps == [1, 2, 3, 4, 5, 6]
    assert (run.info.status, run.data.params) == ("FINISHED", {"adapter.rank": "8"})
    assert not runs.waiting(record.folder)


@pytest.mark.parametrize("last", ["stage", "trial"])
def test_trial_and_stage_that_share_a_folder_are_both_sent(record, monkeypatch, last):
    trial = RunRecord("search-1-t", "trial 1", {"trial": 1}, {}, record.folder, parent="search-1", status="KILLED")
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        for one in (trial, record) if last == "stage" else (record, trial):
            assert not sync_training(one, finished=True)
    assert sync_training(trial if last == "stage" else record, finished=True)
    assert runs.waiting(record.folder) == [record.digest if last == "stage" else trial.digest]
    runs.send_missing(record.folder.parent)
    assert runs.waiting(record.folder) == []
    client = store.connect()
    found = {run.info.run_name: run.info.status for run in client.search_runs([store.experiment_id(client)])}
    assert found == {"finetune": "FINISHED", "trial 1": "KILLED", "tune": "RUNNING"}


def test_line_being_written_waits(record):
    with (record.folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 7, "lo')
    assert sync_training(record)
    assert sent()[0][-1] == 6


def test_long_run_is_sent_in_batches_that_the_store_takes(record, monkeypatch):
    monkeypatch.setattr(runs, "BATCH", 10)
    write_steps(record.folder, 50)
    assert sync_training(record)
    assert sent()[0] == list(range(1, 51))


def test_store_that_is_away_is_reported_once_until_it_answers_again(record, monkeypatch, capsys):
    for _ in range(2):
        with monkeypatch.context() as away:
            away.setenv("MLFLOW_TRACKING_URI", "http://ada:secret-word@127.0.0.1:9")
            for step in (2, 3, 4):
                assert not sync_training(record, through=step)
        printed = capsys.readouterr().err
        assert printed.count("tracking: ") == 1
        assert "secret-word" not in printed
        assert sync_training(record)


def test_store_named_after_training_gets_the_finished_run_once(record, monkeypatch, tmp_path):
    assert sync_training(record, finished=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'named later.db'}")
    runs.send_missing(record.folder.parent)
    steps, run = sent()
    assert steps == [1, 2, 3, 4, 5, 6]
    assert (run.info.status, run.data.params) == ("FINISHED", {"adapter.rank": "8"})
    monkeypatch.setattr(runs, "_send", lambda *_: pytest.fail("sent again"))
    runs.send_missing(record.folder.parent)


def test_run_that_went_on_while_the_store_was_away_is_sent_again(record, monkeypatch):
    assert sync_training(record, finished=True)
    write_steps(record.folder, 8)
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert not sync_training(record, finished=True)
    runs.send_missing(record.folder.parent)
    assert sent()[0] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_two_homes_make_one_run_of_one_digest(record, monkeypatch):
    assert sync_training(record)
    _, first = sent()
    search, looks = runs._runs, []

    def blind_at_first(*arguments):  # as if the other home's run came between look and creation
        looks.append(arguments)
        return [] if len(looks) == 1 else search(*arguments)

    monkeypatch.setattr(runs, "_runs", blind_at_first)
    found = runs.find_or_create_run(store.connect(), record.digest, record.name)
    assert found.info.run_id == first.info.run_id
    assert sent()[1].info.run_id == first.info.run_id


@pytest.mark.parametrize(
    "content", ["", "[]", "7", '{"a": ', '{"sent": []}', "[" * 100_000, '{"sent": [], "digest": 3, "name": "x"}']
)
def test_a_damaged_record_of_a_run_is_named_and_written_anew_by_the_run(record, content):
    file = record.folder / f"tracked-{record.digest}.json"
    assert sync_training(record, finished=True)
    whole = file.read_text()
    file.write_text(content)
    with pytest.raises(UserError, match=r"tracked-finetune-abc\.json .*remove it") as caught:
        runs.send_missing(record.folder.parent)
    assert "\n" not in str(caught.value)
    assert sync_training(record, finished=True)
    assert file.read_text() == whole
