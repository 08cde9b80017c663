"""Stage `base_files`: digests of the local folders that a base is made from; `base` depends on them.

It runs on every `dvc repro`, as DVC cannot depend on a path that only some settings have.
"""

from __future__ import annotations

from components.files import write_json
from components.model.local_files import local_digests
from components.params import Params
from components.workspace import BASE_FILES
from pipelines import stage


def run(params: Params) -> None:
    write_json(BASE_FILES, local_digests(params.base))


if __name__ == "__main__":
    stage.main(run)
