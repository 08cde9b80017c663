from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from components.evaluation.question import Question
from components.params import Params
from components.report.comparisons import comparisons
from components.report.tasks import tasks_chart
from components.synthetic.plates.dish import draw_dish
from components.synthetic.plates.drawing import photograph
from components.synthetic.plates.posed import POSED
from components.tables import posed_data as posing
from components.tables.points import Scores
from components.tables.sweep import COUNTS, DISHES_A_STEP, Curve, curves, exact
from components.tables.tasks import markdown, record
from tests.models import write_tiny_base


def test_each_task_has_an_answer_of_its_own_for_a_photo() -> None:
    rng = random.Random(1)
    dish = draw_dish(rng)
    photo = photograph(dish, 48, rng)
    assert len({posed.name for posed in POSED}) == len({posed.question for posed in POSED}) == COUNTS[-1] == 24
    answers = [posed.answer(dish, photo) for posed in POSED]
    assert all(answers)
    by_name = {posed.name: answer for posed, answer in zip(POSED, answers, strict=True)}
    assert by_name["pieces"] == str(sum(amount for _, amount in dish.amounts))
    assert by_name["left"] == min(photo.pieces, key=lambda piece: piece.x).name
    assert by_name["alphabet"].split(", ") == sorted(dish.ingredients)
    assert len(by_name["absent"].split(", ")) + len(dish.ingredients) == 10


def test_data_are_drawn_once_and_split_by_dish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_base(tmp_path / "models" / "base")
    monkeypatch.chdir(tmp_path)
    data = posing.posed_data(4, 2, 48, 1)
    asked = data.questions(["foods", "mass"])
    assert [question.task for question in asked] == ["foods", "mass"] * 2
    assert len({question.image_hash for question in asked}) == 2
    monkeypatch.setattr(posing, "_write", lambda *_: pytest.fail("drawn again"))
    assert posing.posed_data(4, 2, 48, 1) == data


def test_methods_stand_at_one_rank_and_at_about_dual_lora_s_parameters(params: Params, tmp_path: Path) -> None:
    write_tiny_base(tmp_path / "base")
    found = curves(params, tmp_path / "base")
    assert [curve.name.partition(",")[0] for curve in found[:4]] == ["LoRA", "LoRA-MoE", "RoDE", "Dual-LoRA"]
    assert all(curve.settings["adapter.rank"] == params.adapter.rank for curve in found[:4])
    target = found[3].parameters
    for curve in found[4:]:
        same_rank = next(one for one in found if one.name.startswith(f"{curve.name.partition(',')[0]}, rank"))
        assert abs(curve.parameters - target) < abs(same_rank.parameters - target)
    recipe = found[0].params(params, 6, 5).finetune
    assert (recipe.global_batch, len(recipe.tasks)) == (6 * DISHES_A_STEP, 6)


@pytest.mark.parametrize(("text", "score"), [("Rice and egg", 1), ("rice  and egg.", 1), ("rice", 0), ("", 0)])
def test_an_answer_is_right_word_for_word(text: str, score: float) -> None:
    assert exact(text, ("rice and egg",)) == score


def scored(name: str, few: float, many: float | None = None) -> Scores:
    """With few and with many tasks, the questions about the first such share of 20 photos are answered."""
    one = Scores(Curve(name, {"adapter.rank": 8}, 10))
    for tasks, right in ((1, few), (12, few if many is None else many)):
        for seed in (1, 2):
            place = np.arange(20 * tasks)
            one.add(tasks, seed, f"finetune-{seed}", (place // tasks < 20 * right).astype(float))
    return one


def test_table_says_where_a_method_is_above_plain_lora(params: Params) -> None:
    questions = {
        tasks: [
            Question(f"{photo}{task}", "posed", POSED[task].name, "?", ("a",), image_hash=str(photo))
            for photo in range(20)
            for task in range(tasks)
        ]
        for tasks in (1, 12)
    }
    scores = [scored("LoRA, rank 8", 0.2), scored("RoDE, rank 8", 0.9), scored("Dual-LoRA, rank 8", 0.2)]
    table = record(scores, questions, params=params, data="d")
    assert table["seeds"] == [1, 2]
    said = [claim["said"] for claim in table["claims"]]
    assert said[0] == "RoDE, rank 8 against LoRA, rank 8: better with 1, 12 tasks."
    assert said[1] == "Dual-LoRA, rank 8 against LoRA, rank 8: undecided with any number of tasks."
    text = markdown(table)
    assert "| LoRA, rank 8 | 10 | 20.0 (" in text
    assert "20.0 % when it is trained alone, 20.0 % among 12. No step loses half." in text

    fallen = record([scored("LoRA, rank 8", 0.6, 0.2), *scores[1:]], questions, params=params, data="d")
    assert fallen["order"].endswith(
        "60.0 % when it is trained alone, 20.0 % among 12. From 1 to 12 tasks it loses more than half."
    )

    (shown,) = comparisons({"tasks": table}, "d")
    assert shown.claims == said
    assert shown.table.rows[1][0] == "RoDE, rank 8"
    drawn = tasks_chart(table)
    assert drawn is not None
    assert "LoRA 20 to 20, RoDE 90 to 90" in drawn
    assert tasks_chart(None) is None
