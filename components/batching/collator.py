"""Samples to batches: read, encoded, packed and padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.batching.conversation import IGNORED, Encoded, Encoder
from components.batching.packing import Packed, pack, pad
from components.batching.sampler import Samples
from components.batching.tree import PADDING
from components.images.decoding import decode
from components.images.transforms import ImageMode, pixel_values

MAX_PIXELS = 2**31  # rows were checked against data.max_pixels when they were prepared


@dataclass(frozen=True)
class Batch:
    """Token tensors are (sequences, tokens), see packing.py; `has_image` is (sequences,)."""

    tokens: dict[str, Tensor]  # ids, labels (-100 where there is no loss), positions, segments, previous, has_image
    pixel_values: Tensor | None  # (images, 3, height, width), in the order of the sequences that have one
    num_samples: int
    num_refused: int  # samples left out: no supervised token, or an image that was cut

    @property
    def num_supervised(self) -> int:
        return int((self.tokens["labels"] != IGNORED).sum())

    @property
    def num_tokens(self) -> int:
        return int((self.tokens["segments"] != PADDING).sum())


class Collator:
    """Reads, encodes, packs and pads samples; leaves out those that cannot be trained on. One thread at a time.

    Args:
        multiple: batches are padded to a multiple of so many tokens.
    """

    def __init__(
        self,
        samples: Samples,
        encoder: Encoder,
        image_processor: Any,
        mode: ImageMode,
        max_length: int,
        multiple: int = 1,
    ) -> None:
        self.samples, self.encoder = samples, encoder
        self.image_processor, self.max_length = image_processor, max_length
        self.mode: ImageMode = mode
        self.multiple = multiple

    @property
    def settings(self) -> tuple[Any, ...]:
        """All that a batch of given samples and tokenizer depends on."""
        encoder = self.encoder
        text = (encoder.template, encoder.system, encoder.image_token, encoder.num_image_tokens)
        return (*text, self.mode, self.max_length, self.multiple)

    def __call__(self, units: Sequence[np.ndarray]) -> Batch:
        packed, images, has_image, num_samples = [], [], [], 0
        for unit in units:
            encoded, image = self._encoded(unit)
            if encoded:
                packed.append(pack(encoded))
                num_samples += len(encoded)
                has_image.append(image is not None)
                if image is not None:
                    images.append(decode(image, MAX_PIXELS))
        filler = self.encoder.tokenizer.eos_token_id
        if not packed:  # an empty share still takes part in the step, without weight
            packed, has_image = [Packed([filler], [IGNORED], [0], [1], [0])], [False]
        pixels = pixel_values(images, self.image_processor, self.mode) if images else None
        tokens = {**pad(packed, filler, self.multiple), "has_image": torch.tensor(has_image)}
        return Batch(tokens, pixels, num_samples, sum(map(len, units)) - num_samples)

    def _encoded(self, unit: np.ndarray) -> tuple[list[Encoded], bytes | None]:
        encoded, image = [], None
        for number in unit:
            row, sample = self.samples[int(number)]
            image = row.image
            tokens = self.encoder.encode(sample.turns, image is not None, self.max_length)
            if self.encoder.is_trainable(tokens, image is not None):
                encoded.append(tokens)
        return encoded, image
