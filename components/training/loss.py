"""The loss, computed only where a label is."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration

from components.data.conversation import IGNORED


class SupervisedLoss(nn.Module):
    """LLaVA with the sum of cross entropies over supervised tokens as its output.

    Hidden states are selected before the vocabulary projection, so that no logits are made where there is
    no label. Vision encoder, VCE and projector run in every call, if need be on a blank image without weight:
    under ZeRO-3 all ranks must go through the same modules.
    """

    def __init__(self, llava: LlavaForConditionalGeneration) -> None:
        super().__init__()
        self.llava = llava

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, pixel_values: Tensor | None) -> Tensor:
        """(samples, tokens) ids, mask, labels; (images, 3, height, width) pixels -> scalar, in nats."""
        model = self.llava.model
        pixels = self._blank_image(labels) if pixel_values is None else pixel_values
        image = model.get_image_features(pixel_values=pixels.to(self.llava.lm_head.weight.dtype), return_dict=True)
        given = {"image": image} if pixel_values is not None else None
        hidden = model(input_ids=input_ids, attention_mask=attention_mask, mm_encoder_outputs=given).last_hidden_state
        wanted = labels[:, 1:]
        where = wanted != IGNORED
        logits = self.llava.lm_head(hidden[:, :-1][where]).float()
        loss = cross_entropy(logits, wanted[where], reduction="sum")
        if pixel_values is None:
            loss = loss + 0.0 * sum(features.sum() for features in image.pooler_output)
        return loss

    def _blank_image(self, like: Tensor) -> Tensor:
        side = self.llava.config.vision_config.image_size
        return like.new_zeros((1, 3, side, side))
