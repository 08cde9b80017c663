"""The local store after its workspace was moved or copied: its database names files by absolute URIs.

They are rewritten to the present home folder, so that a moved workspace finds its files, and a copy works with its own
and leaves those of the original alone.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def relocate(database: Path, experiment: str, artifacts: Path) -> None:
    """Make `database` name files under `artifacts` where it names them under the experiment's former folder."""
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return
        query = "SELECT artifact_location FROM experiments WHERE name = ?"
        found = connection.execute(query, [experiment]).fetchone()
        before, now = found[0] if found else None, artifacts.as_uri()
        if not before or before == now or not before.startswith("file:"):
            return
        for table, column in COLUMNS:
            if table in tables:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    [now, len(before) + 1, before, len(before) + 1, f"{before}/"],
                )
