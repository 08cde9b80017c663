"""What a command mends first: a log and aliases that were deleted, lost a race, or came late."""

import json

import pytest
import yaml
from mlflow import MlflowClient

from components.errors import UserError
from components.tracking import mending, promotion, promotion_log, records, registry, store, version_files
from pipelines import register

LOG = "lea-promotions"


@pytest.fixture
def versions(workspace, monkeypatch):
    """Three versions without files, each a little better, each champion in its turn."""
    monkeypatch.setattr(mending, "PATIENCE_S", 0.0)
    (workspace.root / "params.yaml").write_text(yaml.safe_dump(workspace.params.model_dump()))
    client = store.connect()
    client.create_registered_model("lea")
    for iou in (0.80, 0.82, 0.84):
        workspace.measure(iou)
        record = register.present_record(workspace.params)
        tags = {registry.METRICS_TAG: json.dumps(dict(record.figures)), records.OWN_TAG: records.as_tag(record)}
        made = client.create_model_version("lea", "urn:nothing", tags=tags)
        promotion.promote("lea", str(made.version), workspace.params.registry.gate, source="repro")
    return workspace


def champion() -> int | None:
    return registry.alias_version(store.connect(), "lea", "champion")


def moves() -> list[tuple[int | None, int | None, str]]:
    log = promotion_log.read(store.connect(), "lea")
    return [(one.start, one.to, one.kind) for _, one in log.moves("champion")]


def write(entry: promotion_log.Entry) -> None:
    tags = {promotion_log.ENTRY_TAG: json.dumps(entry.as_written())}
    store.connect().create_model_version(LOG, promotion_log.SOURCE, tags=tags)


def entry_behind(log: promotion_log.Log, to: int, *, moved: bool = True) -> promotion_log.Entry:
    return promotion_log.next_entry(log, "lea", "champion", 3, to, "promote", moved, moved, ["x"], {}, {})


def test_loser_of_a_race_stays_void_when_the_winner_is_deleted(versions):
    client, log = store.connect(), promotion_log.read(store.connect(), "lea")
    write(entry_behind(log, 2))
    assert not promotion_log.append(client, log, entry_behind(log, 1))
    mending.mended(client, "lea")
    client.delete_model_version(LOG, "4")
    assert list(promotion_log.read(client, "lea").numbers) == [1, 2, 3]
    mending.mended(client, "lea")
    assert champion() == 2  # it stays where it is, as a move by hand: nobody follows the loser
    assert moves()[-1] == (3, 2, "by hand")


@pytest.mark.parametrize("looked", [True, False])
def test_loser_whose_writer_was_stopped_is_never_followed(versions, looked):
    """looked: a command has come by before the winner is deleted; else an entry stands behind."""
    client, log = store.connect(), promotion_log.read(store.connect(), "lea")
    winner = entry_behind(log, 2)
    write(winner)
    write(entry_behind(log, 1))
    mending.follow(client, "lea", "champion")
    if looked:
        mending.mended(client, "lea")
    else:
        write(entry_behind(promotion_log.read(client, "lea"), 3, moved=False))
    client.delete_model_version(LOG, "4")
    assert 5 not in promotion_log.read(client, "lea").numbers
    mending.mended(client, "lea")
    assert champion() == 2


def test_alias_that_an_earlier_move_sets_late_is_put_back(versions, monkeypatch, capsys):
    gate = versions.params.registry.gate
    promotion.promote("lea", "1", gate, force=True)
    promotion.promote("lea", "3", gate, force=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri())
    before = moves()
    store.connect().set_registered_model_alias("lea", "champion", "1")
    mending.mended(store.connect(), "lea")
    assert (champion(), moves()) == (3, before)
    assert "lea promote 1 --to champion --force" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "0")  # no request can be as late: it was moved by hand
    store.connect().set_registered_model_alias("lea", "champion", "1")
    mending.mended(store.connect(), "lea")
    assert (champion(), moves()[-1]) == (1, (3, 1, "by hand"))


def test_alias_is_not_set_behind_a_log_that_has_gone_on(versions, monkeypatch):
    """Another home finishes our move and makes one more, between our reading and our setting."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.tracking_uri())
    gate, look, written = versions.params.registry.gate, registry.alias_version, []
    log = promotion_log.read(store.connect(), "lea")
    assert promotion_log.append(store.connect(), log, entry_behind(log, 1))
    late = [True]

    def look_late(*arguments):
        found = look(*arguments)
        if late and late.pop():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("LEA_HOME", str(versions.root / "home2"))
                promotion.promote("lea", "2", gate, force=True)
            written.clear()
        return found

    own = MlflowClient.set_registered_model_alias
    monkeypatch.setattr(
        MlflowClient, "set_registered_model_alias", lambda *given: (written.append(given[3]), own(*given))
    )
    monkeypatch.setattr(registry, "alias_version", look_late)
    mending.follow(store.connect(), "lea", "champion")
    assert (champion(), written) == (2, [])


def test_version_that_was_deleted_before_its_alias_was_set_is_left(versions):
    client, log = store.connect(), promotion_log.read(store.connect(), "lea")
    assert promotion_log.append(client, log, entry_behind(log, 2))
    client.delete_model_version("lea", "2")
    assert promotion.promote("lea", "3", versions.params.registry.gate).before == 3
    assert moves()[-2:] == [(3, 2, "promote"), (2, 3, "by hand")]


def test_rollback_passes_over_a_version_that_was_deleted(versions):
    store.connect().delete_model_version("lea", "2")
    assert promotion.rollback("lea", "answers in capitals").version == 1
    assert champion() == 1


def test_entry_of_a_newer_version_of_lea_is_read_and_keeps_its_digest(versions):
    client = store.connect()
    written = entry_behind(promotion_log.read(client, "lea"), 2).as_written() | {"ticket": "A-7"}
    write(promotion_log.Entry.from_written(json.dumps(written)))
    assert promotion.promote("lea", "1", versions.params.registry.gate, force=True).before == 2
    log = promotion_log.read(client, "lea")
    assert (log.entries[3].more, list(log.gaps)) == ({"ticket": "A-7"}, [])
    client.set_model_version_tag(LOG, "4", promotion_log.ENTRY_TAG, "[]")
    with pytest.raises(UserError, match="is no entry of the promotion log"):
        promotion_log.read(client, "lea")


def test_log_whose_end_was_deleted_is_reported_and_its_copy_kept(versions, capsys):
    client, whole = store.connect(), versions.promotions()
    client.delete_model_version(LOG, "3")
    mending.mended(client, "lea")
    printed = capsys.readouterr().err
    assert "1 entries of lea-promotions were deleted or changed in the registry (3: champion 2 -> 3)" in printed
    [aside] = (versions.root / "home").glob("promotions-*.jsonl")
    assert [json.loads(line) for line in aside.read_text().splitlines()] == whole
    mending.mended(client, "lea")
    assert capsys.readouterr().err == ""


def test_log_that_was_deleted_names_the_versions_that_the_gate_forgets(versions, capsys, monkeypatch, tmp_path):
    client = store.connect()
    client.delete_registered_model(LOG)
    mending.mended(client, "lea")
    assert "the gate no longer compares with version 1, 2, 3" in capsys.readouterr().err
    assert champion() == 3
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'another.db'}")  # where nothing is missing
    mending.mended(store.connect(), "lea")
    assert "tracking: " not in capsys.readouterr().err


@pytest.mark.parametrize("alias", ["v1", "Latest", "my alias", "", "a" * 255])
def test_alias_that_mlflow_refuses_is_refused_before_the_log_is_written(versions, alias):
    before = promotion_log.read(store.connect(), "lea")
    with pytest.raises(UserError, match=r"^--to '.*' is no name for an alias: letters, digits, _ and -, at most 241"):
        promotion.promote("lea", "2", versions.params.registry.gate, force=True, alias=alias)
    assert promotion_log.read(store.connect(), "lea") == before
    done = promotion.promote("lea", "2", versions.params.registry.gate, force=True, alias="a" * 241)
    assert registry.alias_version(store.connect(), "lea", done.alias) == 2


def test_log_with_an_alias_that_mlflow_refuses_is_mended_once(versions, capsys):
    """An earlier release wrote the entry first."""
    log = promotion_log.read(store.connect(), "lea")
    write(promotion_log.next_entry(log, "lea", "v1", None, 2, "promote", True, True, ["x"], {}, {}))
    assert promotion.promote("lea", "1", versions.params.registry.gate, force=True).moved
    assert "lea version 2 cannot be 'v1': MLflow takes no alias of that name" in capsys.readouterr().err
    assert all(promotion_log.read(store.connect(), "lea").settled)
    assert promotion.rollback("lea", "answers in capitals").version == 3
    assert capsys.readouterr().err == ""


def test_reason_is_one_line_and_never_longer_than_a_tag(versions, capsys):
    with pytest.raises(UserError, match=r"^--reason: at most 1000 characters, got 200000$"):
        promotion.rollback("lea", "x" * 200_000)
    promotion.rollback("lea", "answers\n in\udce9 capitals")
    assert promotion_log.read(store.connect(), "lea").entries[-1].reasons == ["answers in? capitals"]


@pytest.mark.parametrize("which", ["99999999999999999999", "3000000000", "0", ""])
def test_number_that_no_version_can_have_is_named(versions, which):
    with pytest.raises(UserError, match=f"^model 'lea' has no version or alias '{which}'; it has versions 1 to 3"):
        promotion.promote("lea", which, versions.params.registry.gate)


def test_log_speaks_of_the_models_that_had_the_numbers_then(workspace, monkeypatch):
    """The registered model was deleted in MLflow and made again: its versions count from 1."""
    monkeypatch.setattr(mending, "PATIENCE_S", 0.0)
    client, gate = store.connect(), workspace.params.registry.gate

    def make(*models: str) -> None:
        client.create_registered_model("lea")
        for model in models:
            tags = {version_files.MODEL_TAG: model * 64, registry.METRICS_TAG: '{"ingredients.iou": 0.9}'}
            client.create_model_version("lea", "urn:nothing", tags=tags)

    make("a", "b")
    for version in ("1", "2"):
        promotion.promote("lea", version, gate, force=True)
    promotion.rollback("lea", "answers in capitals")
    there = registry.versions(client, "lea")
    log = promotion_log.read(client, "lea")
    assert (log.holders("champion", there), log.why_rolled_back("champion", 2, there)) == ([1], "answers in capitals")
    client.delete_registered_model("lea")
    make("a", "d")  # the first model has its number again
    there = registry.versions(client, "lea")
    assert (log.holders("champion", there), log.why_rolled_back("champion", 2, there)) == ([1], None)
    assert not promotion.promote("lea", "2", gate).rolled_back
    promotion.promote("lea", "2", gate, force=True)
    assert promotion.rollback("lea", "in capitals too").version == 1
    client.delete_registered_model("lea")
    make("c")
    promotion.promote("lea", "1", gate, force=True)
    with pytest.raises(UserError, match="has no champion before the present one"):
        promotion.rollback("lea", "x")


def test_entry_without_digests_counts_whatever_has_the_number_now(versions):
    """As written by earlier releases."""
    client = store.connect()
    client.set_model_version_tag("lea", "2", version_files.MODEL_TAG, "d" * 64)
    log = promotion_log.read(client, "lea")
    assert log.holders("champion", registry.versions(client, "lea")) == [1, 2, 3]
