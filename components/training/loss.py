"""The loss, computed only where a label is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration

from components.data.conversation import IGNORED
from components.data.packing import tree_block_mask, tree_mask


class SupervisedLoss(nn.Module):
    """LLaVA with the sum of cross entropies over supervised tokens as its output.

    Hidden states are selected before the vocabulary projection, so that no logits are made where there is
    no label. Vision encoder, VCE and projector run in every call, if need be on a blank image without weight:
    under ZeRO-3 all ranks must go through the same modules.
    """

    def __init__(self, llava: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.llava = llava

    def forward(self, tokens: dict[str, Tensor], pixel_values: Tensor | None) -> Tensor:
        """A Batch's (sequences, tokens) tensors and (images, 3, height, width) pixels -> scalar, in nats."""
        flex = self.llava.config.text_config._attn_implementation == "flex_attention"  # pyright: ignore
        mask = tree_block_mask if flex else tree_mask
        hidden = self.llava.model(
            inputs_embeds=self._embedded(tokens["ids"], pixel_values),
            attention_mask=mask(tokens["segments"]),
            position_ids=tokens["positions"],
            use_cache=False,
        ).last_hidden_state
        rows, places = torch.nonzero(tokens["labels"] != IGNORED, as_tuple=True)
        logits = self.llava.lm_head(hidden[rows, tokens["previous"][rows, places]]).float()
        return cross_entropy(logits, tokens["labels"][rows, places], reduction="sum")

    def _embedded(self, input_ids: Tensor, pixel_values: Tensor | None) -> Tensor:
        """Token embeddings with image features in their places.

        A blank image's features are added with weight zero instead, at the same point: gradients must reach the
        parts in the same order on all ranks, for that is the order of their collectives.
        """
        model = self.llava.model
        embedded = model.get_input_embeddings()(input_ids)
        pixels = self._blank_image(input_ids) if pixel_values is None else pixel_values
        image: Any = model.get_image_features(pixel_values=pixels.to(embedded.dtype))
        features = torch.cat(list(image.pooler_output)).to(embedded.dtype)  # (images * patches, hidden)
        if pixel_values is None:
            return embedded + 0.0 * features.sum()
        places = (input_ids == self.llava.config.image_token_id).unsqueeze(-1)
        return embedded.masked_scatter(places, features)

    def _blank_image(self, like: Tensor) -> Tensor:
        vision: Any = self.llava.config.vision_config
        side = vision.image_size
        return like.new_zeros((1, 3, side, side))
