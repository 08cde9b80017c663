"""A bootstrap in two levels: seeds of training, and under them images with all the questions about each.

A resample draws as many seeds as there are, with replacement, and as many images; a drawn image brings its questions
under every drawn seed. So the interval covers what another training and other test images would change, and questions
about one image, which rise and fall together, do not count as if they were independent. With one seed the first level
is empty. Two systems are compared in pairs: contributions of both stand side by side, of the same seed and question.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from components.evaluation.bootstrap import FEWEST, Figure, Interval


def over_seeds_and_images(
    contributions: np.ndarray,
    images: Sequence[Hashable],
    figure: Figure,
    *,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """The figure and its percentile interval.

    contributions: (seeds, units, columns), see evaluation/bootstrap.py; images: that of each unit. From fewer than
    FEWEST images there is no interval.
    """
    seeds, units, columns = contributions.shape
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    places = np.asarray([numbers[image] for image in images])
    sums = np.zeros((len(numbers), seeds * columns))
    np.add.at(sums, places, contributions.transpose(1, 0, 2).reshape(units, -1))
    sizes = np.bincount(places, minlength=len(numbers))
    rng = np.random.default_rng(seed)
    drawn_images = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=resamples)
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    means = (drawn_images @ sums / (drawn_images @ sizes)[:, None]).reshape(resamples, seeds, columns)
    drawn = figure(np.einsum("rs,rsc->rc", drawn_seeds, means))
    drawn = drawn[~np.isnan(drawn)]
    value = float(figure(contributions.mean(axis=(0, 1))))
    if len(numbers) < FEWEST or not len(drawn):
        return Interval(value, None, None, confidence)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high), confidence)
