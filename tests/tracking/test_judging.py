"""With which champions a version is compared."""

import json

import pytest
from mlflow.entities.model_registry import ModelVersion

from components.params import Gate
from components.tracking import judging, records, registry
from components.tracking.records import Record


def version(number: int, iou: float) -> ModelVersion:
    made = ModelVersion("lea", str(number), 0)
    made.tags[registry.METRICS_TAG] = json.dumps({"ingredients.iou": iou})
    return made


def test_what_the_stage_measured_comes_before_what_an_experiment_found():
    """Both were taken under conditions that the champion has figures for."""

    def record(questions: str, iou: float, by: str) -> Record:
        return Record({"conditions": {"questions": {"unifood": questions}}}, {"ingredients.iou": iou}, {}, {}, by)

    def measured(number: int, *found: Record) -> ModelVersion:
        made = ModelVersion("lea", str(number), 0)
        own, *further = found
        made.tags[records.OWN_TAG] = records.as_tag(own)
        made.tags.update({f"{records.OWN_TAG}.{one.key}": records.as_tag(one) for one in further})
        return made

    candidate = measured(2, record("few", 0.9, "experiment"), record("all", 0.7, "evaluate"))
    champion = measured(1, record("all", 0.8, "evaluate"), record("few", 0.8, "gate"))
    case = judging.open_case(candidate, champion, [1], {1: champion, 2: candidate}, None, None)
    assert case.record == record("all", 0.7, "evaluate")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_figure_that_is_no_number_hides_no_champion(order):
    figures = {1: float("nan"), 2: 0.9}
    former = [version(number, figures[number]) for number in order]
    case = judging.Case(version(4, 0.6), version(3, 0.5), former, None)
    gate = Gate(at_least={}, at_most={}, not_worse={"ingredients.iou": 0.0}, better_than_blind={})
    assert [int(one.version) for one in judging._rivals(case, gate)] == [3, 2]
