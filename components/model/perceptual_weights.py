"""The perceptual weights generator of VLoRA (Ma et al. 2024, section 3.3): an image as low-rank weights.

    features (patches, vision width) -- Linear + position embedding --> memory (patches, d), for all types

    for each type of weight (q, k, v, o, m):
    queries (k, d) -- [ self-attention, cross-attention to memory, FFN ] x blocks -- LayerNorm -- Linear --> A

    y = layer(x) + alpha / rank * (x A_i) B_i        in the i-th of the k blocks that are inserted into

A (in x rank) is made from the image, one for each query; B (rank x out) is learned and zero at the start, so that a
fresh generator changes nothing. Type m stands for the whole MLP: from its input to its output.

The decoder blocks are pre-norm, with GELU and a feed-forward network four times as wide. With biases everywhere but on
B, the published numbers (k 8, rank 64, 8 blocks, 576 patches, types qkvom on 4096) make 851,891,712 parameters at
d = 512 and 2,027,531,264 at d = 1024. Positions start with a spread of 1 and the last Linear with 0.02, as in VLoRA's
public code, so that a fresh A has 0.02 * sqrt(d): 0.45 at d = 512. The spread of fresh queries (1) is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

HEAD_SPREAD = 0.02  # of the fresh Linear that makes A


class WeightType(nn.Module):
    """One type of weight: queries and decoder that make its A, and its B in every inserted block.

    Args:
        sizes: features in and out of the layers of this type.
        num_inserted: how many blocks of the language model they are in.
        width, rank, blocks, heads: see PerceptualWeightsGenerator.
    """

    def __init__(
        self, sizes: tuple[int, int], num_inserted: int, *, width: int, rank: int, blocks: int, heads: int
    ) -> None:
        super().__init__()
        self.rank = rank
        self.queries = nn.Parameter(torch.empty(num_inserted, width))
        block = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerDecoder(block, blocks, norm=nn.LayerNorm(width))
        self.down = nn.Linear(width, sizes[0] * rank)
        self.up = nn.ModuleList(nn.Linear(rank, sizes[1], bias=False) for _ in range(num_inserted))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """A starts with a spread of 0.02 * sqrt(width), behind a LayerNorm; B at zero."""
        nn.init.normal_(self.queries)
        for parameter in self.decoder.parameters():  # torch copies one block: without this all would start alike
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.down.weight, std=HEAD_SPREAD)
        nn.init.zeros_(self.down.bias)
        for up in self.up:
            nn.init.zeros_(up.weight)  # pyright: ignore[reportArgumentType]

    def forward(self, memory: Tensor) -> Tensor:
        """(images, patches, width) -> A (images, inserted blocks, in, rank)."""
        queries = self.queries.to(memory.dtype).expand(len(memory), -1, -1)
        return self.down(self.decoder(queries, memory)).unflatten(-1, (-1, self.rank))


class PerceptualWeightsGenerator(nn.Module):
    """Makes A of every type and inserted block for each image.

    Args:
        vision_width, patches: of the features.
        sizes: type -> features in and out of its layers.
        num_inserted: blocks of the language model that get perceptual weights; as many queries has each type.
        width: d, the generator's own width.
        rank: of the perceptual weights.
        blocks, heads: decoder blocks per type, attention heads in them.
    """

    def __init__(
        self,
        vision_width: int,
        patches: int,
        sizes: Mapping[str, tuple[int, int]],
        num_inserted: int,
        *,
        width: int = 512,
        rank: int = 64,
        blocks: int = 8,
        heads: int = 16,
    ) -> None:
        super().__init__()
        self.patches = patches
        self.shared = nn.Linear(vision_width, width)
        self.position = nn.Parameter(torch.empty(patches, width))
        nn.init.normal_(self.position)
        self.types = nn.ModuleDict(
            {
                name: WeightType(size, num_inserted, width=width, rank=rank, blocks=blocks, heads=heads)
                for name, size in sizes.items()
            }
        )

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """(images, patches, vision width) -> type: A (images, inserted blocks, in, rank)."""
        memory = self.shared(features) + self.position
        return {name: make(memory) for name, make in self.types.items()}
