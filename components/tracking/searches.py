"""A search in MLflow: the parent run of its trials, with the result as its files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.tracking import runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient


def sync_search(
    search: str, params: Mapping[str, Any], figures: Mapping[str, float | None], tags: Mapping[str, str], result: Path
) -> bool:
    """Send the end of a search: its settings, the best trial's figures (None: not measured), and the files of `result`.

    Returns False, after one line on stderr, when the store is away: the result lies on disk in any case.
    """

    def send(client: MlflowClient, run_id: str) -> None:
        from mlflow.entities import Metric, Param, RunTag

        client.log_batch(
            run_id,
            params=[Param(key, str(value)[:5000]) for key, value in sorted(params.items())],
            metrics=[Metric(key, value, 0, 0) for key, value in figures.items() if value is not None],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        client.log_artifacts(run_id, str(result), "tune")
        client.set_terminated(run_id)

    return _sent(search, send, f"the search's result is in {result}")


def fail_search(search: str, why: str) -> bool:
    """Send that a search found nothing, and why. Returns False as `sync_search` does."""

    def send(client: MlflowClient, run_id: str) -> None:
        client.set_tag(run_id, "lea.why", why[:5000])
        client.set_terminated(run_id, "FAILED")

    return _sent(search, send, "the search failed")


def _sent(search: str, send: Callable[[MlflowClient, str], None], aside: str) -> bool:
    try:
        with store.answering(store.tracking_uri()):
            client = store.connect()
            send(client, runs.find_or_create_run(client, search, "tune").info.run_id)
        return True
    except Exception as error:  # whatever it is: a search of hours must not end because of its log
        print(f"tracking: {store.first_line(error, 300)} ({aside})", file=sys.stderr)
        return False
