"""The promotion log in a real sqlite registry: its chain, what mends it, and several commands at once."""

import getpass
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from components.errors import UserError
from components.params import validate_params
from components.tracking import mending, promotion, promotion_copy, promotion_log, records, registry, store
from pipelines import cli, register, stage


def champion() -> int | None:
    return registry.alias_version(store.connect(), "lea", "champion")


def moves() -> list[tuple[int | None, int | None, str]]:
    log = promotion_log.read(store.connect(), "lea")
    return [(one.start, one.to, one.kind) for _, one in log.moves("champion")]


@pytest.fixture
def versions(workspace):
    """Three versions without files, each a little better, each champion in its turn."""
    (workspace.root / "params.yaml").write_text(yaml.safe_dump(workspace.params.model_dump()))
    client = store.connect()
    client.create_registered_model("lea")
    for iou in (0.80, 0.82, 0.84):
        add_version(workspace, iou)
        promotion.promote("lea", "candidate", workspace.params.registry.gate, source="repro")
    return workspace


def add_version(workspace, iou: float) -> None:
    workspace.measure(iou)
    record = register.present_record(workspace.params)
    tags = {registry.METRICS_TAG: json.dumps(dict(record.figures)), records.OWN_TAG: records.as_tag(record)}
    made = store.connect().create_model_version("lea", "urn:nothing", tags=tags)
    store.connect().set_registered_model_alias("lea", "candidate", str(made.version))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(mending, "PATIENCE_S", 0.0)


def test_entries_name_the_one_before_and_the_copy_is_the_log(versions):
    log = promotion_log.read(store.connect(), "lea")
    assert [one.before for one in log.entries] == ["", *(one.digest for one in log.entries[:-1])]
    assert all(log.settled)
    assert versions.promotions() == promotion_copy.as_lines(log)
    (versions.root / "home/promotions.jsonl").write_text('{"half a li')
    promotion.promote("lea", "3", versions.params.registry.gate)
    assert versions.promotions() == promotion_copy.as_lines(log)


def test_rollback_leads_to_the_champion_before_and_further_back(versions):
    done = promotion.rollback("lea", "answers in capitals")
    assert (done.before, done.version, champion()) == (3, 2, 2)
    assert promotion.rollback("lea", "this one too").version == 1
    assert moves()[-2:] == [(3, 2, "rollback"), (2, 1, "rollback")]
    with pytest.raises(UserError, match="has no champion before the present one; see: lea history"):
        promotion.rollback("lea", "and again")
    with pytest.raises(UserError, match="--reason"):
        promotion.rollback("lea", " ")


def test_version_that_was_rolled_back_is_no_bar(versions):
    promotion.rollback("lea", "answers in capitals")
    add_version(versions, 0.80)  # 0.04 below version 3, 0.02 below version 2
    promotion.promote("lea", "4", versions.params.registry.gate)
    assert champion() == 4


def test_version_that_was_rolled_back_comes_back_by_force_only(versions):
    gate = versions.params.registry.gate
    promotion.rollback("lea", "answers in capitals")
    for source in ("repro", "promote"):
        done = promotion.promote("lea", "3", gate, source=source)
        assert (done.moved, done.rolled_back, champion()) == (False, True, 2)
        assert done.reasons == [
            "failed: version 3 was rolled back (answers in capitals); "
            "to make it champion again all the same: lea promote 3 --force"
        ]
    assert [one.kind for one in promotion_log.read(store.connect(), "lea").entries][-2:] == ["rollback", "repro"]
    assert promotion.promote("lea", "3", gate, alias="staging").moved
    assert promotion.promote("lea", "3", gate, force=True).moved
    add_version(versions, 0.85)
    promotion.promote("lea", "4", gate)
    assert promotion.promote("lea", "3", gate).moved  # a person has said that it may be champion
    promotion.rollback("lea", "in capitals again")
    assert not promotion.promote("lea", "3", gate).moved


def test_version_that_was_rolled_back_stays_candidate_at_the_next_repro(workspace, capsys):
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.81)
    register.run(workspace.params)
    promotion.rollback("lea", "answers in capitals")
    register.run(workspace.params)
    assert (champion(), workspace.registration()["aliases"]) == (1, ["candidate"])
    assert "register: version 2 stays candidate: it was rolled back; champion: 1" in capsys.readouterr().out


def test_version_that_was_rolled_back_and_moved_back_by_hand_is_judged_by_the_gate(versions, quick):
    promotion.rollback("lea", "answers in capitals")
    store.connect().set_registered_model_alias("lea", "champion", "3")
    promotion.promote("lea", "2", versions.params.registry.gate)
    assert promotion.promote("lea", "3", versions.params.registry.gate).moved


def test_alias_does_not_move_to_a_version_whose_files_are_gone(workspace):
    gate = workspace.params.registry.gate
    register.run(workspace.params)
    workspace.train("b")
    workspace.measure(0.81)
    register.run(workspace.params)
    (place,) = (workspace.root / "home/mlflow/artifacts").rglob(store_of("1"))
    place.rename(place.with_name("away"))
    before = moves()
    for attempt in (
        lambda: promotion.promote("lea", "1", gate),
        lambda: promotion.promote("lea", "1", gate, force=True),
        lambda: promotion.promote("lea", "1", gate, alias="staging"),
        lambda: promotion.rollback("lea", "back"),
    ):
        with pytest.raises(UserError, match=r"files of lea version 1 are missing or damaged.*run where it was trained"):
            attempt()
    assert (champion(), moves()) == (2, before)
    place.with_name("away").rename(place)
    assert promotion.rollback("lea", "back").version == 1


def store_of(number: str) -> str:
    source = store.connect().get_model_version("lea", number).source
    assert source
    return source.removeprefix("models:/")


def test_a_registry_apart_is_no_registry_whose_log_was_deleted(versions, monkeypatch, capsys, tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "apart.db")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{tmp_path}/apart.db")
    for apart in (True, False):
        if not apart:
            monkeypatch.delenv("MLFLOW_REGISTRY_URI")
        capsys.readouterr()
        log = mending.mended(store.connect(), "lea")
        assert len(log.entries) == (0 if apart else 3)
        assert "deleted or changed" not in capsys.readouterr().err
        assert versions.promotions() == promotion_copy.as_lines(log)


def test_dry_run_writes_nothing(versions):
    before = promotion_log.read(store.connect(), "lea")
    tags = store.connect().get_model_version("lea", "1").tags
    done = promotion.promote("lea", "1", versions.params.registry.gate, dry_run=True)
    assert (done.passed, done.moved) == (False, False)
    assert promotion.promote("lea", "2", versions.params.registry.gate, dry_run=True).moved
    assert promotion_log.read(store.connect(), "lea") == before
    assert store.connect().get_model_version("lea", "1").tags == tags
    assert champion() == 3


def test_another_alias_is_moved_through_the_same_gate(versions):
    gate = versions.params.registry.gate
    assert promotion.promote("lea", "2", gate, alias="staging").moved
    assert not promotion.promote("lea", "1", gate, alias="staging").moved
    assert registry.aliases(store.connect(), "lea")["staging"] == 2
    assert champion() == 3
    with pytest.raises(UserError, match="candidate is set by the stage register"):
        promotion.promote("lea", "2", gate, alias="candidate")


def test_refusals_for_two_aliases_are_two_entries(versions):
    gate = versions.params.registry.gate.model_copy(update={"at_least": {"ingredients.iou": 0.99}})
    for alias in ("staging", "champion", "champion"):  # asked twice, it is logged once
        assert not promotion.promote("lea", "2", gate, alias=alias).moved
    assert [entry.alias for entry in promotion_log.read(store.connect(), "lea").entries[3:]] == ["staging", "champion"]


def test_alias_that_was_moved_by_hand_is_written_down(versions, quick):
    store.connect().set_registered_model_alias("lea", "champion", "1")
    promotion.promote("lea", "3", versions.params.registry.gate)
    assert moves()[-2:] == [(3, 1, "by hand"), (1, 3, "promote")]
    store.connect().delete_registered_model_alias("lea", "champion")
    promotion.promote("lea", "1", versions.params.registry.gate)
    assert moves()[-1] == (3, None, "by hand")


def test_another_alias_that_was_moved_by_hand_is_written_down(versions, quick):
    gate = versions.params.registry.gate
    promotion.promote("lea", "2", gate, alias="staging")
    store.connect().set_registered_model_alias("lea", "staging", "1")
    promotion.promote("lea", "3", gate)
    [_, (_, last)] = promotion_log.read(store.connect(), "lea").moves("staging")
    assert (last.start, last.to, last.kind) == (2, 1, "by hand")
    assert champion() == 3


def test_entry_that_mlflow_wrote_twice_is_one_decision(versions, monkeypatch):
    """A server's answer was lost, and MLflow asked again."""
    create = MlflowClient.create_model_version

    def twice(*arguments, **options):
        create(*arguments, **options)
        return create(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_model_version", twice)
    assert promotion.rollback("lea", "answers in capitals").version == 2
    assert champion() == 2
    assert moves()[-2:] == [(2, 3, "repro"), (3, 2, "rollback")]


def test_entry_looks_to_a_server_like_a_version(versions):
    from mlflow.server.handlers import _validate_source_run

    for version in store.connect().search_model_versions("name = 'lea-promotions'"):
        _validate_source_run(version.source or "", "")  # it refuses what could be a path of its own disk


def test_model_of_the_log_is_there_before_its_first_entry(workspace, monkeypatch):
    """A server with users forbids versions of a model that does not exist."""
    create = MlflowClient.create_model_version

    def guarded(client, name, *arguments, **options):
        if not client.search_registered_models(f"name = '{name}'"):
            raise MlflowException("Permission denied", PERMISSION_DENIED)
        return create(client, name, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_model_version", guarded)
    register.run(workspace.params)
    assert len(promotion_log.read(store.connect(), "lea").entries) == 1


def test_verbs_print_and_explain(versions, capsys):
    assert run("history") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[-1] == "versions: 1, 2, 3 (candidate, champion)"
    assert run("promote", "3") == 0
    assert "lea version 3: is champion already" in capsys.readouterr().out
    assert run("rollback", "--reason", "answers in capitals") == 0
    assert "version 2 is champion again (before: 3)" in capsys.readouterr().out
    assert run("promote", "3", "--dry-run") == 2
    assert "lea promote 3 --force" in capsys.readouterr().err
    assert run("promote", "3", "--dry-run", "--force") == 0
    assert "would be champion (before: 2)" in capsys.readouterr().out
    assert run("history", "--json") == 0
    assert json.loads(capsys.readouterr().out)[-1]["reason"] == "answers in capitals"
    with pytest.raises(SystemExit):
        run("rollback")


def run(*words: str) -> int:
    arguments = cli.parser().parse_args(list(words))
    return stage.guarded(lambda: cli.VERBS[arguments.verb].run(arguments))


class Killed(BaseException):
    """Nobody catches it."""


WRITES = ("create_model_version", "set_registered_model_alias", "set_model_version_tag")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_kill_at_every_write_is_mended_by_the_next_command(versions, monkeypatch, quick, command, when):
    """Each round is killed one write later, until a round ends without."""
    gate = versions.params.registry.gate
    for last in range(20):
        first = champion()
        writes = 0

        def stopping(name, original, last=last):
            def call(*arguments, **options):
                nonlocal writes
                writes += 1
                if writes > last and when == "before":
                    raise Killed
                result = original(*arguments, **options)
                if writes > last:
                    raise Killed
                return result

            return call

        killed = True
        with monkeypatch.context() as patch:
            for name in WRITES:
                patch.setattr(MlflowClient, name, stopping(name, getattr(MlflowClient, name)))
            try:
                if command == "promote":
                    promotion.promote("lea", "1", gate, force=True)
                else:
                    promotion.rollback("lea", "round")
                killed = False
            except Killed:
                pass
        log = promotion_log.read(store.connect(), "lea")
        assert run("history") == 0
        mended = promotion_log.read(store.connect(), "lea")
        assert mended.entries == log.entries  # nothing is taken for a move by hand
        assert all(mended.settled[place] for place, _ in mended.moves("champion"))
        assert champion() == mended.moves("champion")[-1][1].to
        assert versions.promotions() == promotion_copy.as_lines(mended)
        if not killed:
            assert last >= 3
            return
        if champion() != first:  # bring it back for the next round
            promotion.promote("lea", "3", gate, force=True)
    raise AssertionError("no round ended without a kill")


def test_promotions_from_two_homes_leave_one_champion_and_one_chain(versions, monkeypatch):
    """Eight commands in four processes, two homes, one database."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri())
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=_promote_many, args=(str(versions.root), f"home{number % 2}", number, versions.params))
        for number in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 4
    log = promotion_log.read(store.connect(), "lea")
    assert [one.before for one in log.entries] == ["", *(one.digest for one in log.entries[:-1])]
    chain = moves()
    assert [start for start, _, _ in chain[1:]] == [to for _, to, _ in chain[:-1]]
    assert {kind for _, _, kind in chain} <= {"repro", "promote"}
    assert champion() == chain[-1][1]
    assert len(chain) > 3


def _promote_many(root: str, home: str, number: int, params) -> None:
    os.chdir(root)
    os.environ["LEA_HOME"] = f"{root}/{home}"
    for step in range(2):
        promotion.promote("lea", str((number + step) % 3 + 1), params.registry.gate, force=True)


def test_who_is_the_servers_user(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:1")
    assert store.who() == "ada"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "grace")
    assert store.who() == "grace"
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.setenv("HOME", str(workspace.root))
    (workspace.root / ".mlflow").mkdir()
    (workspace.root / ".mlflow/credentials").write_text("[mlflow]\nmlflow_tracking_username = kate\n")
    assert store.who() == "kate"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://service@127.0.0.1/mlflow")
    monkeypatch.setattr(getpass, "getuser", lambda: "whoever is logged in here")
    assert store.who() == "whoever is logged in here"


def test_foreign_version_in_the_log_is_named(versions):
    store.connect().create_model_version("lea-promotions", "urn:other")
    with pytest.raises(UserError, match="version 4 of lea-promotions in the registry is no entry"):
        promotion.rollback("lea", "x")


def test_history_is_for_those_who_may_only_read_too(versions, quick, monkeypatch, capsys):
    store.connect().set_registered_model_alias("lea", "champion", "1")

    def refused(*_, **__):
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    for name in WRITES:
        monkeypatch.setattr(MlflowClient, name, refused)
    assert run("history") == 0
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 4
    assert "you may not write here" in printed.err


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_entry_that_was_deleted_or_changed_is_noticed_and_those_behind_it_stay(versions, capsys, damage):
    client = store.connect()
    if damage == "deleted":
        client.delete_model_version("lea-promotions", "2")
    else:
        entry = json.loads(client.get_model_version("lea-promotions", "2").tags["lea.entry"])
        client.set_model_version_tag("lea-promotions", "2", "lea.entry", json.dumps({**entry, "who": "nobody"}))
    log = promotion_log.read(client, "lea")
    assert list(log.numbers) == ([1, 3] if damage == "deleted" else [1, 2, 3])
    assert list(log.gaps) == [3]
    assert run("history") == 0
    assert "deleted or changed in the registry" in capsys.readouterr().out.splitlines()[-3]
    assert promotion.rollback("lea", "answers in capitals").before == 3
    after = promotion_log.read(client, "lea")
    assert (after.entries[-1].before, list(after.gaps)) == (log.head, [3])


def test_entry_that_lost_a_race_stays_void_when_the_one_before_it_is_deleted(versions):
    client = store.connect()
    lost = json.loads(client.get_model_version("lea-promotions", "3").tags["lea.entry"]) | {"who": "the slower one"}
    client.create_model_version("lea-promotions", promotion_log.SOURCE, tags={"lea.entry": json.dumps(lost)})
    assert list(promotion_log.read(client, "lea").numbers) == [1, 2, 3]
    client.delete_model_version("lea-promotions", "2")
    assert list(promotion_log.read(client, "lea").numbers) == [1, 3]


def test_two_homes_register_one_version_of_one_model(workspace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri())
    register.run(workspace.params)
    # as if the other home's version came between look and creation
    monkeypatch.setattr(registry, "find_by_digest", lambda *_: None)
    register.run(validate_params(workspace.params.model_dump()))
    assert version_numbers() == [1]
    assert registry.aliases(store.connect(), "lea") == {"candidate": 1, "champion": 1}


def test_second_version_of_a_model_is_removed_unless_it_was_promoted(workspace, monkeypatch):
    """A command that was stopped between making it and looking again has left it."""
    register.run(workspace.params)
    tags = store.connect().get_model_version("lea", "1").tags
    first = register.present_record(workspace.params)
    workspace.measure(0.81, tokens=6)
    other = register.present_record(workspace.params)
    for record in (other, first):
        store.connect().create_model_version(
            "lea", "urn:nothing", tags={**tags, records.OWN_TAG: records.as_tag(record)}
        )
    promotion.promote("lea", "3", workspace.params.registry.gate, force=True)
    workspace.measure(0.8)
    register.run(workspace.params)
    assert version_numbers() == [1, 3]
    known = records.each(store.connect().get_model_version("lea", "1"))
    assert [record.figures for record in known] == [first.figures, other.figures]


def version_numbers() -> list[int]:
    return sorted(int(one.version) for one in store.connect().search_model_versions("name = 'lea'"))


def test_a_promotion_that_sets_its_alias_late_does_not_overrule_the_one_after_it(versions, monkeypatch):
    """Another home settles our entry, promotes and ends, all between our reading of the log and our setting."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri())
    gate, own = versions.params.registry.gate, MlflowClient.set_registered_model_alias
    late = [True]

    def set_late(client, name, alias, version):
        if late and late.pop():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LEA_HOME", str(versions.root / "home2"))
                promotion.promote("lea", "2", gate, force=True)
        return own(client, name, alias, version)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", set_late)
    promotion.promote("lea", "1", gate, force=True)
    assert champion() == 2
    assert moves()[-2:] == [(3, 1, "promote"), (1, 2, "promote")]
    mending.mended(store.connect(), "lea")
    assert moves()[-1] == (1, 2, "promote")


def test_history_of_nothing_makes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(Path(__file__).parents[2])
    for words, printed in (([], "nothing was decided on lea yet\n"), (["--json"], "[]\n")):
        assert run("history", *words) == 0
        assert capsys.readouterr().out == printed
    assert not (tmp_path / "home").exists()
