from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

START = "import ray; from components.cluster import start_ray; start_ray(1, {}); print(ray.cluster_resources()['CPU'])"


@pytest.mark.slow
def test_a_cluster_that_others_began_here_is_not_joined() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # Ray's sockets want a short path
        trace = Path(folder, "ray", "ray_current_cluster")  # what `ray start` leaves, whether or not it still runs
        trace.parent.mkdir()
        trace.write_text("127.0.0.1:1", encoding="utf-8")
        without = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        environment = {**without, "RAY_TMPDIR": folder, "PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run(
            [sys.executable, "-c", START], env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) >= 1
