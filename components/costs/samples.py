"""How many samples an epoch has, as far as it is known before the data is prepared."""

from __future__ import annotations

from components.errors import UserError
from components.params import Params, Recipe

# Sources by the names that the profiles and the synthetic domain give them: samples of each task that an image makes.
EACH: dict[str, dict[str, int]] = {
    "captions": {"caption": 1},
    "llava_558k": {"caption": 1},
    "capsfusion": {"caption": 1},
    "mix665k": {"chat": 1},
    "unifood": {"ingredients": 1, "recipe": 1, "nutrition": 1},
    "scienceqa": {"choice": 1},
    "flickr30k": {"caption": 5},
}
PUBLISHED = {  # images or records
    "llava_558k": 558_000,
    "capsfusion": 30_000_000,  # pairs that VLoRA trains on
    "mix665k": 665_000,
    "unifood": 100_000,
    "flickr30k": 31_783,
}
DECLARED = {"scienceqa": 12_726}  # its publisher declares the training split


def num_samples(params: Params, recipe: Recipe) -> int | None:
    """Training samples per epoch of the wanted tasks, or None where a source's size is not known here."""
    splits = params.data.splits
    share = 1 - splits.validation - splits.test
    drawn: dict[str, int] = {**params.plates.sets}
    total = 0
    for source in recipe.sources:
        if source in drawn:
            images = drawn[source] * share
        elif source in DECLARED:
            images = DECLARED[source]
        elif source in PUBLISHED:
            images = PUBLISHED[source] * share
        else:
            return None
        total += round(images * sum(n for task, n in EACH[source].items() if not recipe.tasks or task in recipe.tasks))
    if not total:
        raise UserError(f"params.yaml: {', '.join(recipe.sources)} hold no samples of tasks {', '.join(recipe.tasks)}")
    return total
