"""Stage `plates`, once for each set: raw files of the synthetic domain. Needs the set's name."""

from __future__ import annotations

from components.errors import UserError
from components.files import fresh_folder
from components.params import Params
from components.synthetic.plates.layouts import WRITERS
from components.workspace import RAW
from pipelines import stage


def run(params: Params, name: str = "") -> None:
    sets: dict[str, int] = {str(key): count for key, count in params.plates.sets.items()}
    if name not in sets:
        raise UserError(f"plates.sets has no {name!r}; it has {', '.join(sets)}")
    target = RAW / f"plates_{name}"
    with fresh_folder(target) as folder:
        WRITERS[name](folder, sets[name], params.plates.image_size, params.seed)
    print(f"plates: {sets[name]} images of {name} -> {target}")


if __name__ == "__main__":
    stage.main(run)
