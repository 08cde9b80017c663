"""A search in MLflow: the parent run of its trials, with the result as its files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.tracking import runs, store


def sync_search(
    search: str, params: Mapping[str, Any], figures: Mapping[str, float], tags: Mapping[str, str], result: Path
) -> bool:
    """Send the end of a search: its settings, the best trial's figures, and the files of `result`.

    Returns False, after one line on stderr, when the store is away: the result lies on disk in any case.
    """
    try:
        with store.answering(store.tracking_uri()):
            client = store.connect()
            run_id = runs.find_or_create_run(client, search, "tune").info.run_id
            from mlflow.entities import Metric, Param, RunTag

            client.log_batch(
                run_id,
                params=[Param(key, str(value)[:5000]) for key, value in sorted(params.items())],
                metrics=[Metric(key, value, 0, 0) for key, value in figures.items()],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
            client.log_artifacts(run_id, str(result), "tune")
            client.set_terminated(run_id)
        return True
    except Exception as error:  # whatever it is: a search of hours must not end because of its log
        print(f"tracking: {store.first_line(error, 300)} (the search's result is in {result})", file=sys.stderr)
        return False
