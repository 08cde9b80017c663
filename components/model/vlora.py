"""VLoRA in the model: images change the weights of the language model, no visual token reaches it.

    pixels -- vision encoder -- generator --> A for each image          (in the projector's place)
                                              |
    row of text --> q_proj --(+)--> ...       forward hooks on the layers: + scale * (x A) B

The hooks sit on the layers as the base has them, below any adapter, and read what `VisualWeights` holds for the call
that is running. A row without image gets A = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration

from components import params
from components.errors import UserError
from components.model.perceptual_weights import PerceptualWeightsGenerator

PLACES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "m": "mlp",
}  # type of weight -> where it lies in a block
ARGUMENT = "perceptual_weights"  # of the model's call: a PerceptualWeights


@dataclass(frozen=True)
class PerceptualWeights:
    """What the rows of a batch see.

    Attributes:
        made: type -> A (images, inserted blocks, in, rank).
        image_of_row: (rows,), -1 for a row without image.
    """

    made: dict[str, Tensor]
    image_of_row: Tensor

    def of_rows(self, has_image: Tensor) -> PerceptualWeights:
        """Deal the images out, in order, to the rows (rows,) that have one."""
        return replace(self, image_of_row=torch.where(has_image, has_image.cumsum(0) - 1, -1))

    def choose(self, rows: Tensor) -> PerceptualWeights:
        """Choose, reorder or repeat rows."""
        return replace(self, image_of_row=self.image_of_row[rows])

    def times(self, x: Tensor, name: str, place: int) -> Tensor:
        """x A of one layer: (rows, tokens, in) -> (rows, tokens, rank)."""
        if len(x) != len(self.image_of_row):
            raise ValueError(f"perceptual weights of {len(self.image_of_row)} rows were given for {len(x)} rows")
        a = self.made[name][:, place][self.image_of_row.clamp(min=0)]
        return torch.bmm(x, a).masked_fill((self.image_of_row < 0)[:, None, None], 0.0)


class VisualWeights(nn.Module):
    """Stands where LLaVA has its projector: makes perceptual weights and hands on no token.

    `current` is what the hooks add in the call that is running: the weights of its `pixel_values` (row by row), those
    of its argument `perceptual_weights`, or none. A call that goes on from a cache keeps what was there.
    """

    def __init__(self, generator: PerceptualWeightsGenerator, hidden: int, scale: float) -> None:
        super().__init__()
        self.generator = generator
        self.hidden, self.scale = hidden, scale
        self.current: PerceptualWeights | None = None

    def forward(self, features: Tensor) -> Tensor:
        """(images, patches, vision width) -> (images, 0, hidden): no visual token."""
        rows = torch.arange(len(features), device=features.device)
        self.current = PerceptualWeights(self.generator(features), rows)
        return features.new_zeros(len(features), 0, self.hidden)

    def hook_into(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        """Let a LLaVA model take the argument `perceptual_weights`, and its `blocks` be changed by it."""
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        for name, kind in self.generator.types.items():
            for place, (block, up) in enumerate(zip(blocks, kind.up, strict=True)):  # pyright: ignore
                block.get_submodule(PLACES[name]).register_forward_hook(self._adding(name, place, up))

    def _begin(self, model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        given = named.pop(ARGUMENT, None)
        cache = named.get("past_key_values")
        goes_on = cache is not None and cache.get_seq_length() > 0
        encoded = named.get("mm_encoder_outputs")  # `generate` sends the image through the connector before this call
        if given is not None or not (goes_on or encoded):
            self.current = given
        return inputs, named

    def _adding(self, name: str, place: int, up: nn.Module) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self.current is None:
                return output
            return output + self.scale * up(self.current.times(inputs[0], name, place))

        return hook


def make_visual_weights(model: LlavaForConditionalGeneration, settings: params.VLora) -> VisualWeights:
    """A fresh generator for this model, hooked into it; the model's images take no place among its tokens any more."""
    language: Any = model.model.language_model
    blocks = list(language.layers)[settings.every - 1 :: settings.every]
    if not blocks:
        raise UserError(
            f"params.yaml: connector.vlora.every is {settings.every}, but the language model has only "
            f"{len(language.layers)} blocks"
        )
    hidden = language.config.hidden_size
    sizes = {name: _sizes(blocks[0], name, hidden) for name in settings.types}
    config: Any = model.config
    generator = PerceptualWeightsGenerator(
        config.vision_config.hidden_size,
        config.image_seq_length,
        sizes,
        len(blocks),
        width=settings.width,
        rank=settings.rank,
        blocks=settings.blocks,
        heads=settings.heads,
    )
    weights = VisualWeights(generator, hidden, settings.alpha_over_rank)
    weights.hook_into(model.model, blocks)
    config.image_seq_length = 0
    return weights


def _sizes(block: nn.Module, name: str, hidden: int) -> tuple[int, int]:
    try:
        layer: Any = block.get_submodule(PLACES[name])
    except AttributeError:
        raise UserError(
            f"params.yaml: connector.vlora.types holds {name!r}, but the language model's blocks have no {PLACES[name]}"
        ) from None
    return (hidden, hidden) if name == "m" else (layer.in_features, layer.out_features)
