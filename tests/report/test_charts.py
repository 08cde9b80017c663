from __future__ import annotations

import csv
import io
import math
import re
import xml.etree.ElementTree as ET

import pytest

from components.errors import UserError
from components.report.charts import difference_chart, loss_chart, smooth, window
from components.report.depth import by_depth, layer_name
from components.report.entropy import entropy_chart, layer_entropies, sentence, zero_share
from components.report.experts import expert_tables
from components.report.experts import sentence as experts_sentence
from components.report.results import differences
from components.report.skill_space import distribution_chart, distributions, entropy_table
from components.svg import alone, ticks
from tests.report.conftest import EXPERTS, SKILL_SPACE

ENTRY = {"value": -2.0, "low": -4.0, "high": -1.0, "confidence": 0.95}


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-31.8, 65.7), (0, 5.43), (1, 75), (1, 8000), (0.001, 0.0042)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert 2 <= len(marks) <= 6
    assert all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)
    assert marks == sorted(set(marks))


def test_ticks_of_nothing_are_one() -> None:
    assert ticks(3, 3) == [3]


def test_loss_chart_survives_gaps_and_spikes() -> None:
    log = [{"step": step, "loss": 5 - step / 100} for step in range(1, 200)]
    log[50] = {"step": 51, "loss": math.nan}
    log[60] = {"step": 61, "loss": 1e6}
    del log[70]["loss"]
    svg = loss_chart(log, "stage")
    assert svg is not None
    ET.fromstring(svg)
    heights = [float(y) for y in re.findall(r"[ML][\d.-]+ ([\d.-]+)", svg)]
    assert all(0 <= y <= 200 for y in heights), "a spike must not leave the panel"
    assert max(heights) - min(heights) > 60, "nor flatten the rest"


def test_loss_chart_needs_two_points() -> None:
    assert loss_chart([{"step": 1, "loss": 2.0}], "stage") is None


def test_running_mean_keeps_half_its_window_at_the_ends() -> None:
    points = [(float(step), 1.0) for step in range(100)]
    points[-1] = (99.0, 5.0)
    assert window(100) == 9
    assert smooth(points)[-1] == (99.0, pytest.approx((4 + 5) / 5))
    assert smooth(points)[0] == (0.0, 1.0)


def test_loss_chart_draws_validation_and_names_its_axes() -> None:
    log = [{"step": step, "loss": 2.0} for step in range(1, 50)]
    checked = [{"step": 10, "validation_loss": 2.5}, {"step": 49, "validation_loss": 2.25}]
    svg = loss_chart(log, "stage", checked)
    assert svg is not None
    words = [word.text for word in ET.fromstring(svg).iter("text")]
    assert {"loss", "step of the optimiser", "running mean", "validation"} <= set(words)
    assert len(list(ET.fromstring(svg).iter("circle"))) == 3, "one in the legend, two measured"
    assert "validation loss from 2.50 to 2.25" in svg
    assert "validation" not in (loss_chart(log, "stage") or "")


def test_difference_chart_puts_zero_between_the_sides() -> None:
    entries = differences(
        {
            "differences": {
                "nutrition.pmae finetune - mean": ENTRY,
                "recipe.bleu finetune - blind": ENTRY | {"high": 3.0},
            }
        }
    )
    svg = difference_chart(entries)
    assert svg is not None
    tree = ET.fromstring(svg)
    zero = float(next(line for line in tree.iter("line") if line.get("class") == "rest").attrib["x1"])
    first, second = (float(dot.attrib["cx"]) for dot in tree.iter("circle"))
    assert first < zero
    assert second < zero
    assert [dot.get("class") for dot in tree.iter("circle")] == ["dot", "dot weak"]


def test_difference_chart_has_no_place_for_ratios() -> None:
    entries = differences({"differences": {"ingredients.iou finetune / blind": ENTRY}})
    assert difference_chart(entries) is None


def test_chart_alone_is_svg_with_its_colours() -> None:
    svg = loss_chart([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], 'a "stage" & more')
    assert svg is not None
    tree = ET.fromstring(alone(svg))
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme" in alone(svg)


def test_entropies_are_means_over_tasks() -> None:
    rows = [
        {"layer": "layers.0.self_attn.q_proj", "task": "recipe", "before": "2", "after": "1", "zero_share": "0.25"},
        {"layer": "layers.0.self_attn.q_proj", "task": "caption", "before": "4", "after": "2", "zero_share": "0.75"},
        {"layer": "layers.1.self_attn.q_proj", "task": "caption", "before": "3", "after": "nan", "zero_share": "nan"},
    ]
    entries = layer_entropies(rows)
    assert [(entry.layer, entry.skill, entry.rectified) for entry in entries] == [("0 q", 3.0, 1.5)]
    assert sentence(entries).startswith("The rectified skill space has lower entropy, as in the paper: mean 1.50")
    assert "50\u00a0% of the task units" in (zero_share(rows) or "")
    ET.fromstring(entropy_chart(entries))


def test_higher_rectified_entropy_is_said_to_differ_from_the_paper() -> None:
    entries = layer_entropies([{"layer": "0", "before": "1", "after": "2"}])
    assert "not lower entropy, unlike in the paper" in sentence(entries)


def test_entropy_without_its_columns_names_them() -> None:
    with pytest.raises(UserError, match="has no column before, after; run: dvc repro evaluate"):
        layer_entropies([{"layer": "0"}])


def test_layer_name_is_short() -> None:
    assert layer_name("base_model.model.model.layers.3.self_attn.q_proj") == "3 q"
    assert layer_name("odd") == "odd"


def test_many_blocks_are_put_together_by_depth() -> None:
    names = [f"model.layers.{block}.self_attn.{part}_proj" for block in range(30) for part in "qv"]
    label = by_depth(names)
    labels = list(dict.fromkeys(map(label, names)))
    assert labels[0] == "blocks 0–3"
    assert labels[-1] == "blocks 28–29"
    assert len(labels) == 8
    assert by_depth(names[:4])(names[3]) == "block 1"
    assert by_depth([])("odd") == "odd"


def test_depths_are_means_over_their_layers() -> None:
    rows = [
        {"layer": f"layers.{block}.{part}_proj", "task": "t", "before": str(block), "after": "1", "zero_share": "0.5"}
        for block in range(16)
        for part in "qv"
    ]
    label = by_depth(row["layer"] for row in rows)
    assert [(one.layer, one.skill) for one in layer_entropies(rows, label)][:2] == [
        ("blocks 0–1", 0.5),
        ("blocks 2–3", 2.5),
    ]
    assert entropy_table(rows, label).rows[0] == ("blocks 0–1", ["0.50 → 1.00, 50\u00a0%"])
    units = [
        {"layer": f"layers.{block}.q_proj", "task": "t", "unit": str(unit), "before": before, "after": before}
        for block, shares in ((0, "0.8 0.2"), (1, "0.4 0.6"))
        for unit, before in enumerate(shares.split())
    ]
    assert distributions(units, lambda _: "all")["all"][0] == pytest.approx([0.7, 0.3])


def test_distribution_is_sorted_and_a_mean_over_tasks() -> None:
    rows = list(csv.DictReader(io.StringIO(SKILL_SPACE)))
    before, after = distributions(rows)["0 q"]
    assert before == pytest.approx([0.7, 0.3])
    assert after == pytest.approx([0.8, 0.2])
    ET.fromstring(distribution_chart(distributions(rows)))
    many = {f"{n} q": (before, after) for n in range(64)}
    titles = [text.text for text in ET.fromstring(distribution_chart(many)).iter("text")]
    assert [title for title in titles if title in many] == ["0 q", "10 q", "21 q", "32 q", "42 q", "53 q"]


def test_entropy_table_has_a_cell_for_every_layer_and_task() -> None:
    rows = [
        {"layer": "layers.0.self_attn.q_proj", "task": "recipe", "before": "2", "after": "1", "zero_share": "0.5"},
        {"layer": "layers.1.self_attn.q_proj", "task": "caption", "before": "3", "after": "nan", "zero_share": "1"},
    ]
    table = entropy_table(rows)
    assert table.tasks == ["recipe", "caption"]
    assert table.rows == [("0 q", ["2.00 → 1.00, 50\u00a0%", "–"]), ("1 q", ["–", "3.00 → silent, 100\u00a0%"])]


def test_experts_are_shown_by_task_and_layer() -> None:
    rows = list(csv.DictReader(io.StringIO(EXPERTS)))
    by_task, by_layer = expert_tables(rows)
    assert by_task.experts == ["expert 1, rank 8", "expert 2, rank 16"]
    assert by_task.rows == [("recipe", ["0.60", "0.20, off 50\u00a0%"])]
    assert [name for name, _ in by_layer.rows] == ["0 q", "1 q"]
    said = experts_sentence(rows).replace("\u00a0", " ")
    assert "expert 1 carries 75 % of the router's weight and expert 2 25 % (even: 50 %); 25 % of all" in said
