"""How many samples an epoch has, as far as it is known before the data is prepared."""

from __future__ import annotations

from components.params import Params, Recipe

# Sources by the names that the profiles give them: published images or records, and samples that each makes.
PUBLISHED = {
    "llava_558k": (558_000, 1),
    "mix665k": (665_000, 1),
    "unifood": (100_000, 3),  # ingredients, recipe, nutrition
    "flickr30k": (31_783, 5),  # captions
}
DECLARED = {"scienceqa": 12_726}  # its publisher declares the training split
DRAWN = {"captions": 1, "unifood": 3, "scienceqa": 1, "flickr30k": 5}  # samples per image of the synthetic domain


def num_samples(params: Params, recipe: Recipe) -> int | None:
    """Training samples per epoch, or None where a source's size is not known here."""
    splits = params.data.splits
    share = 1 - splits.validation - splits.test
    total = 0
    for source in recipe.sources:
        if source in params.plates.sets:
            images, each = params.plates.sets[source], DRAWN[source]  # pyright: ignore[reportArgumentType]
        elif source in DECLARED:
            total += DECLARED[source]
            continue
        elif source in PUBLISHED:
            images, each = PUBLISHED[source]
        else:
            return None
        chosen = len(recipe.tasks) if recipe.tasks and each > 1 else each
        total += round(images * min(chosen, each) * share)
    return total
