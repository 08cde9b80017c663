"""The loss, computed only where a label is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration

from components.batching.conversation import IGNORED
from components.batching.packing import tree_block_mask
from components.batching.tree import added_mask, tree_mask
from components.model.connector import image_side, perceive
from components.model.vlora import ARGUMENT


class SupervisedLoss(nn.Module):
    """LLaVA with the sum of cross entropies over supervised tokens as its output.

    Hidden states are selected before the vocabulary projection, so that no logits are made where there is
    no label. Vision encoder and connector run in every call, if need be on a blank image without weight:
    under ZeRO-3 all ranks must go through the same modules.
    """

    def __init__(self, llava: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.llava = llava

    def forward(self, tokens: dict[str, Tensor], pixel_values: Tensor | None) -> Tensor:
        """A Batch's tokens and (images, 3, height, width) pixels -> scalar, in nats."""
        hidden = self.llava.model(
            **self._seen(tokens, pixel_values),
            attention_mask=self._mask(tokens["segments"]),
            position_ids=tokens["positions"],
            use_cache=False,
        ).last_hidden_state
        rows, places = torch.nonzero(tokens["labels"] != IGNORED, as_tuple=True)
        logits = self.llava.lm_head(hidden[rows, tokens["previous"][rows, places]]).float()
        return cross_entropy(logits, tokens["labels"][rows, places], reduction="sum")

    def _mask(self, segments: Tensor) -> Any:
        """Who sees whom, as the attention takes it: `eager` adds its mask, the others ask whether."""
        attention = self.llava.config.text_config._attn_implementation  # pyright: ignore
        if attention == "flex_attention":
            return tree_block_mask(segments)
        mask = tree_mask(segments)
        return added_mask(mask, self.llava.lm_head.weight.dtype) if attention == "eager" else mask

    def _seen(self, tokens: dict[str, Tensor], pixel_values: Tensor | None) -> dict[str, Any]:
        """Token embeddings with image features in their places, or beside them the weights that images become.

        A blank image's features are added with weight zero instead, at the same point: gradients must reach the
        parts in the same order on all ranks, for that is the order of their collectives. Its weights reach no row.
        """
        input_ids = tokens["ids"]
        embedded = self.llava.model.get_input_embeddings()(input_ids)
        pixels = self._blank_image(input_ids) if pixel_values is None else pixel_values
        features, weights = perceive(self.llava, pixels.to(embedded.dtype))
        if weights is not None:
            blank = pixel_values is None
            seen = weights.of_none(len(input_ids)) if blank else weights.of_rows(tokens["has_image"])
            return {"inputs_embeds": embedded, ARGUMENT: seen}
        features = features.to(embedded.dtype)
        if pixel_values is None:
            return {"inputs_embeds": embedded + 0.0 * features.sum()}
        places = (input_ids == self.llava.config.image_token_id).unsqueeze(-1)
        return {"inputs_embeds": embedded.masked_scatter(places, features)}

    def _blank_image(self, like: Tensor) -> Tensor:
        side = image_side(self.llava)
        return like.new_zeros((1, 3, side, side))
