"""A served model is a registered one: the miniature repository of the tracking tests."""

from __future__ import annotations

from tests.tracking.conftest import empty_database as empty_database
from tests.tracking.conftest import workspace as workspace
