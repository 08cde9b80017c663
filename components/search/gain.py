"""The best trial against the present settings: the loss on held-out images, with paired bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from components.batching.collator import Collator
from components.batching.conversation import Encoder
from components.batching.sampler import Samples
from components.evaluation.bootstrap import bootstrap
from components.model.assemble import build, to_precision
from components.model.base import load_base
from components.progress import track
from components.training.checkpoint import CHECKPOINTS, load_checkpoint, newest_intact
from components.training.job import Job
from components.training.loss import SupervisedLoss
from components.training.validation import evenly

SPLITS = ("validation", "test")


def gains(default: Job, best: Job, resamples: int, seed: int) -> dict[str, dict[str, float | None]]:
    """By split: both losses, and default's minus best's with a 95 % interval over images (above 0: best is better).

    The validation split chose the best trial and flatters it; the test split did not. From too few images there is no
    interval: `low` and `high` are None.
    """
    found = {}
    names = {"default": default, "best": best}
    measured = {name: image_losses(job, f"tune: {name}") for name, job in names.items()}
    for split in SPLITS:
        rows = np.concatenate([measured[name][split] for name in names], axis=1)  # loss, tokens; loss, tokens
        interval = bootstrap(rows, loss_difference, resamples=resamples, seed=seed)
        losses = {
            name: float(part[:, 0].sum() / part[:, 1].sum()) for name in names for part in [measured[name][split]]
        }
        found[split] = {**losses, "gain": interval.value, "low": interval.low, "high": interval.high}
    return found


def loss_difference(means: np.ndarray) -> np.ndarray:
    """(..., 4) means of default's loss and tokens, best's loss and tokens -> difference of losses per token."""
    return means[..., 0] / means[..., 1] - means[..., 2] / means[..., 3]


def image_losses(job: Job, what: str) -> dict[str, np.ndarray]:
    """By split: (images, 2), the sum of losses over an image's supervised tokens, and how many those are."""
    checkpoints = job.folder / CHECKPOINTS
    state = load_checkpoint(checkpoints, newest_intact(checkpoints))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    base = load_base(job.base)
    model, _ = build(base, job.vce, job.adapter, job.vlora, train_language_model=job.trains_language_model)
    odd = model.load_state_dict(dict(state.weights), strict=False).unexpected_keys
    assert not odd, f"the checkpoint is of another model: {odd}"
    to_precision(model, job.training.precision).to(device)  # pyright: ignore
    loss_of = SupervisedLoss(model).eval()
    recipe = job.recipe
    encoder = Encoder(base.tokenizer, recipe.template, model.config.image_token_id, model.config.image_seq_length)
    return {split: _of_split(job, split, loss_of, encoder, base.image_processor, device, what) for split in SPLITS}


def _of_split(
    job: Job, split: str, loss_of: SupervisedLoss, encoder: Encoder, image_processor: Any, device: Any, what: str
) -> np.ndarray:
    recipe = job.recipe
    samples = Samples(job.prepared, job.assignments, recipe.sources, recipe.tasks, split)
    collate = Collator(samples, encoder, image_processor, recipe.image, recipe.max_length)
    rows = []
    for unit in track(evenly(samples.starts, job.validation.max_samples if job.validation else 0), f"{what}, {split}"):
        batch = collate([unit])
        pixels, loss = batch.pixel_values, 0.0
        if batch.num_supervised:
            with torch.no_grad():
                tokens = {name: tensor.to(device) for name, tensor in batch.tokens.items()}
                loss = float(loss_of(tokens, None if pixels is None else pixels.to(device)))
        rows.append((loss, batch.num_supervised))  # an image without any keeps its row: models are compared in pairs
    return np.asarray(rows)
