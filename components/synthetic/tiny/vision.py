"""The tiny vision encoder: CLIP-style contrastive training on freshly drawn plates.

Two contrasts with a small text tower that is thrown away afterwards: each picture against the descriptions of the
other pictures in the batch (CLIP), and each patch against the phrases that a patch can have ("two tomatoes",
"fried pan", "table"). The second works on the last hidden state but one, which the projector reads.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast

from components.params import TinyVision
from components.synthetic.plates.dish import draw_dish, numbers
from components.synthetic.plates.drawing import photograph
from components.synthetic.plates.regions import phrases, regions
from components.synthetic.plates.words import rich_caption
from components.synthetic.tiny.optimiser import Report, TinyOptimiser

_JOINT = 64  # width of the space that pictures and texts share
_PICTURE_WEIGHT = 0.3  # of the whole-picture contrast; the patch contrast has weight 1


class TextTower(nn.Module):
    """One Transformer block over a text, then the mean: (batch, tokens) -> (batch, width), of length 1."""

    def __init__(self, vocabulary: int, max_tokens: int, pad: int) -> None:
        super().__init__()
        self.pad = pad
        self.words = nn.Embedding(vocabulary, _JOINT)
        self.places = nn.Parameter(0.02 * torch.randn(max_tokens, _JOINT))
        self.block = nn.TransformerEncoderLayer(_JOINT, 4, 2 * _JOINT, dropout=0.0, batch_first=True, norm_first=True)
        self.out = nn.Linear(_JOINT, _JOINT)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.words(ids) + self.places[: ids.shape[1]]
        empty = ids == self.pad
        hidden = self.block(hidden, src_key_padding_mask=empty)
        kept = (~empty).unsqueeze(-1)
        return F.normalize(self.out((hidden * kept).sum(1) / kept.sum(1)), dim=-1)


class Pictures:
    """Drawn plates in memory: bytes (images, side, side, 3); targets (images, patches, phrases), each row sums to 1."""

    def __init__(self, settings: TinyVision, image_size: int, seed: int) -> None:
        cells = image_size // settings.patch_size
        index = {phrase: number for number, phrase in enumerate(phrases())}
        self.pixels = torch.empty(settings.images, image_size, image_size, 3, dtype=torch.uint8)
        self.targets = torch.zeros(settings.images, cells * cells, len(index))
        self.captions: list[str] = []
        for number in range(settings.images):
            rng = numbers(seed, "base vision", number)
            dish = draw_dish(rng)
            photo = photograph(dish, image_size, rng)
            self.pixels[number] = torch.from_numpy(np.array(photo.image))
            self.captions.append(rich_caption(dish, rng))
            for place, found in enumerate(regions(dish, photo, cells)):
                for phrase in found:
                    self.targets[number, place, index[phrase]] = 1 / len(found)


def train_vision(
    settings: TinyVision,
    image_size: int,
    seed: int,
    tokenizer: PreTrainedTokenizerFast,
    processor: CLIPImageProcessorPil,
    report: Report | None = None,
) -> CLIPVisionModel:
    pictures = Pictures(settings, image_size, seed)
    config = CLIPVisionConfig(
        hidden_size=settings.width,
        intermediate_size=3 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        image_size=image_size,
        patch_size=settings.patch_size,
        projection_dim=_JOINT,
    )
    encoder = CLIPVisionModel(config)
    known = _padded(tokenizer, phrases())
    described = _padded(tokenizer, pictures.captions)
    pad = tokenizer.convert_tokens_to_ids(str(tokenizer.pad_token))
    assert isinstance(pad, int)
    tower = TextTower(len(tokenizer), described.shape[1], pad)
    patch_head = nn.Sequential(nn.LayerNorm(settings.width), nn.Linear(settings.width, _JOINT))
    picture_head = nn.Linear(settings.width, _JOINT)
    scales = nn.ParameterList([torch.tensor(2.5), torch.tensor(2.5)])  # logarithms of 1 / temperature
    mean, std = torch.tensor(processor.image_mean), torch.tensor(processor.image_std)
    generator = torch.Generator().manual_seed(seed)
    steps_per_epoch = settings.images // settings.batch
    num_steps = settings.epochs * steps_per_epoch
    optimiser = TinyOptimiser(
        encoder.encoder, [encoder, tower, patch_head, picture_head, scales], settings.learning_rate, num_steps
    )
    encoder.train()
    for step in range(num_steps):
        if step % steps_per_epoch == 0:
            order = torch.randperm(settings.images, generator=generator)
        chosen = order[step % steps_per_epoch * settings.batch :][: settings.batch]
        pixels = ((pictures.pixels[chosen] / 255 - mean) / std).permute(0, 3, 1, 2)
        output = encoder(pixel_values=pixels, output_hidden_states=True)
        patches = F.normalize(patch_head(output.hidden_states[-2][:, 1:]), dim=-1)
        patch_loss = F.cross_entropy(
            (scales[0].exp() * patches @ tower(known).T).flatten(0, 1), pictures.targets[chosen].flatten(0, 1)
        )
        whole = F.normalize(picture_head(output.pooler_output), dim=-1)
        alike = scales[1].exp() * whole @ tower(described[chosen]).T
        own = torch.arange(len(chosen))
        picture_loss = (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2
        optimiser.step(patch_loss + _PICTURE_WEIGHT * picture_loss)
        if report:
            report(step + 1, f"vision {step + 1}/{num_steps}, loss {patch_loss.item():.2f} + {picture_loss.item():.2f}")
    return encoder.eval()


def _padded(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    return tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")["input_ids"]
