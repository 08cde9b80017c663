"""Stage `base`: the model that everything else is fitted to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.files import fresh_folder
from components.params import Params
from components.progress import Bar
from components.workspace import BASE, local_place
from pipelines import stage


def run(params: Params) -> None:
    from components.model import base

    settings = params.base
    with fresh_folder(BASE) as folder:
        if settings.kind == "checkpoint":
            base.refer_to_checkpoint(folder, local_place(settings.checkpoint.model), settings.checkpoint.revision)
        elif settings.kind == "compose":
            places = (local_place(settings.compose.vision), local_place(settings.compose.language))
            pieces = base.load_pieces(*places, params.seed)
            _save(folder, params, pieces, f"{settings.compose.vision} + {settings.compose.language}")
        else:
            _save(folder, params, _tiny(params), "tiny")
    print(f"base: {settings.kind}, digest {base.read_reference(BASE)['digest'][:12]} -> {BASE}")


def _save(folder: Path, params: Params, pieces: tuple[Any, ...], name: str) -> None:
    from components.model import base

    vision, language, tokenizer, image_processor = pieces
    model = base.compose(vision, language, tokenizer, image_processor, params.seed)
    base.save_base(folder, model, tokenizer, image_processor, params.base.kind, name)


def _tiny(params: Params) -> tuple[Any, ...]:
    from components.synthetic.tiny.base import train_tiny_base

    with Bar("base", None) as bar:
        return train_tiny_base(params.base.tiny, params.plates.image_size, params.seed, bar)


if __name__ == "__main__":
    stage.main(run)
