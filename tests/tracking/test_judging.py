"""With which champions a version is compared."""

import json

import pytest
from mlflow.entities.model_registry import ModelVersion

from components.params import Gate
from components.tracking import judging, registry


def version(number: int, iou: float) -> ModelVersion:
    made = ModelVersion("lea", str(number), 0)
    made.tags[registry.METRICS_TAG] = json.dumps({"ingredients.iou": iou})
    return made


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_figure_that_is_no_number_hides_no_champion(order):
    figures = {1: float("nan"), 2: 0.9}
    former = [version(number, figures[number]) for number in order]
    case = judging.Case(version(4, 0.6), version(3, 0.5), former, None)
    gate = Gate(at_least={}, at_most={}, not_worse={"ingredients.iou": 0.0}, better_than_blind={})
    assert [int(one.version) for one in judging._rivals(case, gate)] == [3, 2]
