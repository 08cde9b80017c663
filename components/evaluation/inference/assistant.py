"""A model that answers, read from a base and the parts that were trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration

from components import params
from components.batching.conversation import Encoder, Template
from components.errors import UserError
from components.images.transforms import ImageMode
from components.model.assemble import add_connector, build
from components.model.base import load_base
from components.model.stored import read_settings
from components.model.vision_tower import stop_after_last_level
from components.model.weights import load_adapter, load_connector, load_language_model


@dataclass(frozen=True)
class Assistant:
    """A model that answers, with all that turns a question into its input."""

    model: LlavaForConditionalGeneration
    tokenizer: Any
    image_processor: Any
    template: Template
    image: ImageMode

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id

    @property
    def num_image_tokens(self) -> int:
        return self.model.config.image_seq_length

    @property
    def encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self.template, self.image_token_id, self.num_image_tokens)


def load_assistant(
    base_folder: Path,
    parts: Path | None,
    *,
    template: Template = "v1",
    image: ImageMode = "pad",
    use_gpu: bool = False,
) -> Assistant:
    """Read base and parts for answering, in the precision that is fast where they run.

    Without parts: the bare base, which gets its questions in `template`.
    """
    base = load_base(base_folder)
    if not use_gpu:
        base.model.to(torch.float32)  # pyright: ignore  # CPUs compute half precision several times slower
    if parts is None:
        model: Any = base.model
        add_connector(model, None)
    else:
        settings = read_settings(parts)
        if settings["base"]["digest"] != base.reference["digest"]:
            raise UserError(
                f"{parts} was trained on base {settings['base']['digest'][:12]}, "
                f"but {base_folder} is {base.reference['digest'][:12]}; run: dvc repro"
            )
        vce = params.Vce(**settings["vce"]) if settings["vce"] else None
        vlora = params.VLora(**settings["vlora"]) if settings.get("vlora") else None
        model, _ = build(base, vce, None, vlora)
        load_connector(model, parts)
        if settings.get("language_model") == "trained":
            load_language_model(model, parts)
        if settings["adapter"]:
            load_adapter(model, parts)
    stop_after_last_level(model)
    model.requires_grad_(False)
    model.eval()
    if use_gpu:
        model.to("cuda")
    return Assistant(model, base.tokenizer, base.image_processor, template, image)
