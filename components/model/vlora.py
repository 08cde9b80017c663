"""VLoRA in the model: images change the weights of the language model, no visual token reaches it.

    pixels -- vision encoder -- generator --> A for each image          (in the projector's place)
                                              |
    row of text --> q_proj --(+)--> ...       forward hooks on the layers: + scale * (x A) B

The hooks sit on the layers as the base has them, below any adapter. A row without image gets A = 0.

Weights follow what they belong to, so that calls may be interleaved: a block gets them as an argument, which it has
again when activation checkpointing computes it a second time; a cache of keys and values carries those of the call that
filled it, for the calls that go on from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
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
ARGUMENT = "perceptual_weights"  # of the model's call and of a block's: a PerceptualWeights; also a cache's attribute


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
        """Deal the images out, in order, to the rows (rows,) that have one; as many as there are images."""
        images, shown = len(next(iter(self.made.values()))), has_image.sum()
        if not shown.is_meta and images != shown:
            raise ValueError(f"perceptual weights of {images} images were given for {int(shown)} rows with an image")
        return replace(self, image_of_row=torch.where(has_image, has_image.cumsum(0) - 1, -1))

    def of_none(self, rows: int) -> PerceptualWeights:
        """Rows that see no image."""
        return replace(self, image_of_row=self.image_of_row.new_full((rows,), -1))

    def choose(self, rows: Tensor) -> PerceptualWeights:
        """Choose, reorder or repeat rows."""
        return replace(self, image_of_row=self.image_of_row[rows])

    def repeated(self, rows: int) -> PerceptualWeights:
        """Each row several times in turn, as `generate` repeats prompts, where this makes `rows` of them."""
        times = max(1, rows // len(self.image_of_row))
        return replace(self, image_of_row=self.image_of_row.repeat_interleave(times))

    def times(self, x: Tensor, name: str, place: int) -> Tensor:
        """x A of one layer: (rows, tokens, in) -> (rows, tokens, rank)."""
        if len(x) != len(self.image_of_row):
            raise ValueError(f"perceptual weights of {len(self.image_of_row)} rows were given for {len(x)} rows")
        a = self.made[name][:, place][self.image_of_row.clamp(min=0)]
        return torch.bmm(x, a).masked_fill((self.image_of_row < 0)[:, None, None], 0.0)


class VisualWeights(nn.Module):
    """Stands where LLaVA has its projector: makes perceptual weights and hands on no token.

    `current` is what the hooks add: the weights of a call's `pixel_values` (row by row), those of its argument
    `perceptual_weights`, those that its cache carries, or none.
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
        model.register_forward_hook(self._end)
        for block in blocks:
            block.register_forward_pre_hook(self._hand_over, with_kwargs=True)
            block.get_submodule("self_attn").register_forward_pre_hook(self._receive, with_kwargs=True)
        for name, kind in self.generator.types.items():
            for place, block in enumerate(blocks):
                add = partial(self._add, name, place, kind.up[place])  # pyright: ignore
                block.get_submodule(PLACES[name]).register_forward_hook(add)

    def _begin(self, model: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        given, cache = named.pop(ARGUMENT, None), named.get("past_key_values")
        encoded = (named.get("mm_encoder_outputs") or {}).get("image")  # `generate` encodes images before this call
        if given is None and encoded is not None:
            rows = named["inputs_embeds"] if named.get("input_ids") is None else named["input_ids"]
            given = self._of_encoded(encoded).repeated(len(rows))
        if given is None and cache is not None and cache.get_seq_length() and named.get("pixel_values") is None:
            if not hasattr(cache, ARGUMENT):
                raise ValueError(f"the cache was not filled by this model; give the rows' {ARGUMENT}")
            given = getattr(cache, ARGUMENT)
        self.current = given
        return inputs, named

    def _of_encoded(self, image: Any) -> PerceptualWeights:
        """Those just made with LLaVA's image outputs, which carry them from their first call on."""
        made = getattr(image, ARGUMENT, self.current)
        if made is None:
            raise ValueError("these image outputs were made before another call; give pixel_values")
        setattr(image, ARGUMENT, made)
        return made

    def _end(self, model: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        cache = getattr(output, "past_key_values", None)
        if cache is not None:
            setattr(cache, ARGUMENT, self.current)
        self.current = None

    def _hand_over(self, block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        return inputs, {**named, ARGUMENT: self.current}

    def _receive(self, attention: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        """A block hands its arguments on to its attention, its first changed layer, in the backward pass as well."""
        self.current = named.pop(ARGUMENT)
        return inputs, named

    def _add(
        self, name: str, place: int, up: nn.Module, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> Tensor:
        if self.current is None:
            return output
        return output + self.scale * up(self.current.times(inputs[0], name, place))


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
