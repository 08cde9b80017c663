"""The registry on a real MLflow server with users, on PostgreSQL and an S3 store, from two homes at the same time."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.errors import UserError
from components.params import validate_params
from components.tracking import promotion, promotion_log, records, registry, runs, store, version_files
from components.tracking.runs import RunRecord
from pipelines import register
from tests.tracking import servers
from tests.tracking.servers import PASSWORD, USERS, Server

pytestmark = pytest.mark.service
ROUNDS, PROCESSES = 4, 6  # 24 promotions


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers.team_server(tmp_path_factory.mktemp("team")) as running:
        yield running


@pytest.fixture
def team(workspace, server: Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """The workspace of ada, with a registered model of the test's own; nothing but addresses is set."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    be(server, "ada", workspace.root / "home", monkeypatch)
    tree = workspace.params.model_dump()
    tree["registry"]["name"] = f"lea-{request.node.name.removeprefix('test_').partition('[')[0][:40]}"
    workspace.params = validate_params(tree)
    return workspace


def be(server: Server, user: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_HOME", str(home))
    for name, value in server.environment(user).items():
        monkeypatch.setenv(name, value)


def name_of(workspace) -> str:
    return workspace.params.registry.name


def log_of(workspace) -> promotion_log.Log:
    return promotion_log.read(store.connect(), name_of(workspace))


def test_address_user_and_password_are_enough(team, server, monkeypatch):
    register.run(team.params)
    register.run(team.params)
    assert registry.aliases(store.connect(), name_of(team)) == {"candidate": 1, "champion": 1}
    assert not (team.root / "home/mlflow/artifacts").exists()
    stored = server.files.list_objects_v2(Bucket=servers.BUCKET)["Contents"]
    assert any(one["Key"].endswith("artifacts/parts/connector.safetensors") for one in stored)
    [entry] = log_of(team).entries
    assert (entry.who, entry.kind, entry.to) == ("ada", "repro", 1)
    be(server, "grace", team.root / "home of grace", monkeypatch)
    with version_files.opened(store.connect().get_model_version_by_alias(name_of(team), "champion")) as (parts, _):
        assert (parts / "connector.safetensors").read_text() == "connector a"


def test_files_that_are_gone_from_the_store_are_put_back(team, server, capsys):
    register.run(team.params)
    connector = {"Bucket": servers.BUCKET, "Key": f"{folder_of(team)}/artifacts/parts/connector.safetensors"}
    for lost in (connector["Key"], f"{folder_of(team)}/MLmodel"):
        server.files.delete_object(Bucket=servers.BUCKET, Key=lost)
        register.run(team.params)
        assert "were missing or changed; they are put back" in capsys.readouterr().out
    assert server.files.get_object(**connector)["Body"].read() == b"connector a"


def folder_of(workspace) -> str:
    """Where the store keeps version 1."""
    place = store.connect().get_model_version_download_uri(name_of(workspace), "1")
    return place.partition("mlflow-artifacts:/")[2].lstrip("/")


def test_file_of_equal_size_that_another_user_finds_changed_is_put_back(team, server, capsys, monkeypatch):
    register.run(team.params)
    connector = {"Bucket": servers.BUCKET, "Key": f"{folder_of(team)}/artifacts/parts/connector.safetensors"}
    server.files.put_object(**connector, Body=b"connector ?")
    with monkeypatch.context() as patch:
        be(server, "grace", team.root / "home of grace", patch)
        version = store.connect().get_model_version(name_of(team), "1")
        with pytest.raises(UserError, match="are missing or damaged"), version_files.opened(version):
            pass
    register.run(team.params)
    assert "were missing or changed; they are put back" in capsys.readouterr().out
    assert server.files.get_object(**connector)["Body"].read() == b"connector a"


def test_alias_that_the_server_refuses_is_settled_and_a_number_beyond_its_database_is_named(versions):
    name, log = name_of(versions), log_of(versions)
    refused = promotion_log.next_entry(log, name, "v1", None, 2, "promote", True, True, ["x"], {}, {})
    assert promotion_log.append(store.connect(), log, refused)
    assert promotion.promote(name, "1", versions.params.registry.gate, force=True).moved
    assert all(log_of(versions).settled)
    with pytest.raises(UserError, match="has no version or alias '3000000000'; it has versions 1 to 3"):
        promotion.promote(name, "3000000000", versions.params.registry.gate)


def test_two_users_register_one_version_and_one_run_at_once(team, server):
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(2)
    processes = [
        spawn.Process(target=_register_as, args=(server, user, str(team.root), team.params, together)) for user in USERS
    ]
    run_all(processes)
    client = store.connect()
    assert len(client.search_model_versions(f"name = '{name_of(team)}'")) == 1
    found = client.search_runs([store.experiment_id(client)], "tags.`lea.run` = 'finetune-a'")
    assert len(found) == 1


def _register_as(server: Server, user: str, root: str, params, together) -> None:
    os.chdir(root)
    os.environ.update(server.environment(user), LEA_HOME=f"{root}/home of {user}")
    find = registry.find_by_digest

    def at_once(*arguments):
        found = find(*arguments)
        together.wait(60)  # both have looked, and neither has found the model
        return found

    registry.find_by_digest = at_once
    registry.register(Path("models/finetune"), Path("models/base"), register.present_record(params), params)


@pytest.fixture
def versions(team):
    """Three versions without files."""
    client = store.connect()
    client.create_registered_model(name_of(team))
    for iou in (0.80, 0.82, 0.84):
        team.measure(iou)
        record = register.present_record(team.params)
        tags = {registry.METRICS_TAG: json.dumps(dict(record.figures)), records.OWN_TAG: records.as_tag(record)}
        client.create_model_version(name_of(team), promotion_log.SOURCE, tags=tags)
    return team


def test_racing_promotions_from_two_homes_leave_one_champion_and_one_chain(versions, server):
    spawn = multiprocessing.get_context("spawn")
    run_all(
        [
            spawn.Process(target=_promote_many, args=(server, number, str(versions.root), versions.params))
            for number in range(PROCESSES)
        ]
    )
    log = log_of(versions)
    assert [one.before for one in log.entries] == ["", *(one.digest for one in log.entries[:-1])]
    moves = [one for _, one in log.moves("champion")]
    assert [one.start for one in moves] == [None, *(one.to for one in moves[:-1])]
    assert {one.kind for one in log.entries} == {"promote"}
    assert {one.who for one in log.entries} == set(USERS)
    assert all(log.settled)
    assert registry.alias_version(store.connect(), name_of(versions), "champion") == moves[-1].to
    assert promotion.mended(store.connect(), name_of(versions)).entries == log.entries


def _promote_many(server: Server, number: int, root: str, params) -> None:
    user = USERS[number % 2]
    os.chdir(root)
    os.environ.update(server.environment(user), LEA_HOME=f"{root}/home of {user}")
    for step in range(ROUNDS):
        onward = (1, 2)[number % 2]  # one user's versions go up, the other's down: neither finds its work done
        version = str((number + onward * step) % 3 + 1)
        promotion.promote(params.registry.name, version, params.registry.gate, force=True)


def run_all(processes: list[Any]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_alias_moved_in_mlflows_pages_is_written_down_by_the_next_command(versions, server, monkeypatch):
    name, gate = name_of(versions), versions.params.registry.gate
    promotion.promote(name, "1", gate)
    MlflowClient(server.url).set_registered_model_alias(name, "champion", "3")
    be(server, "grace", versions.root / "home of grace", monkeypatch)
    promotion.promote(name, "2", gate, dry_run=True)
    assert len(log_of(versions).entries) == 1
    promotion.promote(name, "3", gate)
    assert [(one.start, one.to, one.kind, one.who) for one in log_of(versions).entries] == [
        (None, 1, "promote", "ada"),
        (1, 3, "by hand", "grace"),
    ]
    assert promotion.rollback(name, "answers in capitals").version == 1


def test_server_named_after_training_gets_the_finished_runs(team, monkeypatch):
    folder = team.root / "home/runs/finetune-0123"
    folder.mkdir(parents=True)
    lines = [json.dumps({"step": step, "loss": 1 / step}) + "\n" for step in range(1, 2001)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    record = RunRecord("finetune-0123", "finetune", {"adapter.rank": 8}, {"unifood": "f" * 64}, folder)
    with monkeypatch.context() as alone:
        for name in ("URI", "USERNAME", "PASSWORD"):
            alone.delenv(f"MLFLOW_TRACKING_{name}")
        assert runs.sync_training(record, finished=True)
    runs.send_missing(team.root / "home/runs")
    client = store.connect()
    [run] = client.search_runs([store.experiment_id(client)], "tags.`lea.run` = 'finetune-0123'")
    assert (run.info.status, run.data.params) == ("FINISHED", {"adapter.rank": "8"})
    assert [one.step for one in client.get_metric_history(run.info.run_id, "loss")] == list(range(1, 2001))


@pytest.mark.parametrize("password", ["not this one, surely", None])
def test_wrong_or_missing_password_is_one_line(team, monkeypatch, password):
    if password:
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with pytest.raises(UserError, match=r"does not know user ada .* set MLFLOW_TRACKING_USERNAME and") as refused:
        register.run(team.params)
    assert "\n" not in str(refused.value)


def test_database_without_a_server_is_refused_before_files_stay_on_one_disk(team, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.database)
    monkeypatch.setattr(store, "EXPERIMENT", "another")
    with pytest.raises(UserError, match=r"is a database and holds no files: .* mlflow experiments create") as refused:
        store.connect()
    assert PASSWORD not in str(refused.value)
