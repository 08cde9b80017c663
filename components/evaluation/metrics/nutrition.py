"""Nutrition estimates: percentage mean absolute error, as Nutrition5k's own compute_eval_statistics.py has it.

    pMAE(field) = 100 * mean |predicted - true| / mean true        pMAE = mean over the fields

The script is scripts/compute_eval_statistics.py of google-research-datasets/Nutrition5k, its figure <field>_MAE_%. The
paper names pMAE and no formula; the mean over the fields is assumed.
An answer without five readable numbers up to 10,000 counts as predicting 0 for each field: silence is neither
dropped nor free (it scores 100), and no single slip of the pen is the whole mean. The number of such answers is
reported as `unparsed`.

The sums behind both means are kept per sample, as (samples, 10): |error| of the five fields, then the five
true values. So a resample of samples gives its pMAE by adding rows up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from components.data.tasks import NUTRITION_FIELDS

Nutrition = Mapping[str, float]


def contributions(predicted: Sequence[Nutrition | None], true: Sequence[Nutrition]) -> np.ndarray:
    """(samples, 10): |error| of each field, then the true value of each field."""
    truth = np.array([[each[field] for field in NUTRITION_FIELDS] for each in true], float)
    guess = np.array([[each[field] if each else 0.0 for field in NUTRITION_FIELDS] for each in predicted], float)
    return np.concatenate([np.abs(guess - truth), truth], axis=1)


def field_pmae(sums: np.ndarray) -> np.ndarray:
    """(..., 10) sums or means of contributions -> (..., 5) pMAE by field; NaN where all true values are 0."""
    errors, truth = np.split(sums, 2, axis=-1)
    return 100 * np.divide(errors, truth, out=np.full_like(errors, np.nan), where=truth > 0)


def pmae(sums: np.ndarray) -> np.ndarray:
    """(..., 10) -> (...): the average over the fields that are defined."""
    fields = field_pmae(sums)
    defined = ~np.isnan(fields)
    total = np.where(defined, fields, 0).sum(-1)
    count = defined.sum(-1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def mean_nutrition(true: Sequence[Nutrition]) -> dict[str, float]:
    """The constant answer that any model must beat: the mean of each field."""
    return {field: float(np.mean([each[field] for each in true])) for field in NUTRITION_FIELDS}
