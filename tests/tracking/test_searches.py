"""The end of a search in the tracking store."""

from __future__ import annotations

from pathlib import Path

from components.tracking import runs, searches, store


def test_a_gain_without_an_interval_is_sent_as_far_as_it_was_measured(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text("{}", encoding="utf-8")
    figures = {"test.gain": 0.25, "test.low": None, "test.high": None}
    assert searches.sync_search("search-1", {"tune.seed": 17}, figures, {"lea.best": "3"}, tmp_path)
    client = store.connect()
    run = runs.find_or_create_run(client, "search-1", "tune")
    assert run.data.metrics == {"test.gain": 0.25}
    assert [file.path for file in client.list_artifacts(run.info.run_id, "tune")] == ["tune/search.json"]
