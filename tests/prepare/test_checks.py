"""Each check with its reason code."""

from __future__ import annotations

from typing import Any

import pytest

from components.data.schema import Sample, Turn
from components.data.tasks import NUTRITION_FIELDS, caption_sample
from components.images.store import ImageStore
from components.prepare.checks import REASONS, check_entry, locate, sample_problem
from components.sources.entry import Entry
from components.sources.nutrition import nutrition_problem
from tests.raw import picture, write_folder


def sample(*texts: str, roles: Any = ("human", "assistant") * 4) -> Sample:
    return Sample("1", "chat", [Turn(role, text) for role, text in zip(roles, texts, strict=False)])


@pytest.mark.parametrize(
    ("texts", "has_image", "reason"),
    [
        (("<image>\nq", "a"), True, None),
        (("q\n<image>", "a", "q", "a"), True, None),
        (("<image>", "a"), True, None),
        (("q", "a"), False, None),
        (("q", "a"), True, "marker_missing"),
        (("<image><image>q", "a"), True, "marker_many"),
        (("<image>q", "a", "<image>q", "a"), True, "marker_many"),
        (("q", "a", "<image>q", "a"), True, "marker_late"),
        (("<image>q", "a <image>"), True, "marker_in_answer"),
        (("<image>q", "a"), False, "marker_without_image"),
        (("q", " \n"), False, "answer_empty"),
        ((" ", "a"), False, "question_empty"),
        (("q",), False, "roles_do_not_alternate"),
        (("q", "a", "q"), False, "roles_do_not_alternate"),
        ((), False, "no_turns"),
        (("q \ud800", "a"), False, "text_not_unicode"),
    ],
)
def test_conversation_is_checked(texts: tuple[str, ...], has_image: bool, reason: str | None):
    problem = sample_problem(sample(*texts), has_image)
    assert (problem[0] if problem else None) == reason
    assert reason is None or reason in REASONS


@pytest.mark.parametrize("roles", [("assistant", "human"), ("human", "human"), ("human", "system")])
def test_roles_must_alternate(roles: tuple[str, str]):
    problem = sample_problem(sample("q", "a", roles=roles), False)
    assert problem
    assert problem[0] == "roles_do_not_alternate"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((300, 400, 10, 20, 50), None),
        ((159, 9486, 10, 20, 50), "nutrition_over_9_kcal_per_g"),  # a dish of Nutrition5k
        ((100, 900, 100, 0, 0), None),  # pure fat
        ((0, 0, 0, 0, 0), "nutrition_zero_total"),
        ((300, 400, 10, -1, 50), "nutrition_negative"),
        ((10_001, 400, 10, 1, 50), "nutrition_too_large"),
        ((100, 400, 50, 40, 30), "nutrition_over_mass"),
        ((300, None, 10, 20, 50), "nutrition_malformed"),
        ((300, True, 10, 20, 50), "nutrition_malformed"),
        ((300, "400", 10, 20, 50), "nutrition_malformed"),
        ((300, float("nan"), 10, 20, 50), "nutrition_malformed"),
        ((300, 10**400, 10, 20, 50), "nutrition_malformed"),
    ],
)
def test_nutrition_must_be_possible(values: tuple[Any, ...], reason: str | None):
    problem = nutrition_problem(dict(zip(NUTRITION_FIELDS, values, strict=True)))
    assert (problem[0] if problem else None) == reason


def test_zero_total_of_ingredients_that_weigh_something_is_refused():
    totals = dict.fromkeys(NUTRITION_FIELDS, 0.0) | {"mass_g": 74.0}
    assert nutrition_problem(totals) is None  # water
    assert nutrition_problem(totals, {"calories_kcal": 144.6}) == (
        "nutrition_zero_total",
        "calories_kcal is 0, its ingredients have 144.6",
    )


def test_damaged_image_rejects_every_sample_of_it(tmp_path):
    write_folder(tmp_path, {"images/good.png": picture(1), "images/bad.png": picture(1)[:50]})
    store = ImageStore.open(tmp_path, "images", 1000)
    captions = [caption_sample(str(number), "a plate") for number in range(3)]
    good = check_entry(locate(Entry("good.png", "g", [*captions, caption_sample("empty", " ")]), store), 1000)
    bad = check_entry(locate(Entry("bad.png", "g", captions), store), 1000)
    assert good.row is not None
    assert [sample.id for sample in good.row.samples] == ["0", "1", "2"]
    assert [(reject.id, reject.reason) for reject in good.rejects] == [("empty", "answer_empty")]
    assert bad.row is None
    assert [(reject.id, reject.reason) for reject in bad.rejects] == [(str(i), "image_corrupt") for i in range(3)]
