from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.evaluation.benchmarks import BENCHMARKS, JUDGED, PUBLISHED, mmbench, mme
from components.params import load_params, profiles, validate_params
from components.params.trees import changed, merged
from components.report.forms import form_of
from components.report.ledger import LedgerRow, PublishedTable, ThisRun, ledger, read_published
from tests.report.conftest import TIMES

PROFILE = {"profile": "llava-1.5-7b", "base": {"kind": "checkpoint"}, "adapter": {"rank": 64}}


def table(name: str) -> PublishedTable:
    return next(table for table in read_published() if table.id == name)


def rows(name: str, this_run: ThisRun) -> dict[str, LedgerRow]:
    return {row.name: row for row in ledger([table(name)], this_run)[0].rows}


@pytest.fixture
def big(this_run: ThisRun) -> ThisRun:
    """A run of the paper's base and rank."""
    settings = {"profile": "llava-1.5-7b", "base.kind": "checkpoint", "adapter.rank": 64}
    tree = changed(this_run.params.model_dump(), settings)
    return replace(this_run, params=validate_params(tree), profiles={"llava-1.5-7b": PROFILE}, run="feedface" * 8)


def test_published_holds_every_printed_figure() -> None:
    counts = {table.id: sum(v is not None for row in table.rows for v in row.values) for table in read_published()}
    assert counts == {
        "unifood": 60,
        "scienceqa": 6,
        "flickr30k": 12,
        "parts": 16,
        "design": 20,
        "anchor": 20,
        "rank": 24,
        "size": 7,
        "time": 4,
        "general": 18,
        "vlora": 6,
    }


def test_published_rows_are_as_long_as_their_headings() -> None:
    for printed in read_published():
        assert {len(row.values) for row in printed.rows} == {len(printed.columns)}, printed.id


def test_published_tables_agree_where_the_paper_repeats_itself() -> None:
    """Tables 1 and 3 print the same runs (Dual-LoRA paper)."""
    first = {row.name: row.values for row in table("unifood").rows}
    third = {row.name: row.values for row in table("parts").rows}
    assert third["Dual-LoRA only"] == first["Dual-LoRA"][:4]
    assert third["both"] == first["Dual-LoRA + VCE"][:4]
    assert third["neither (LoRA)"] == first["LoRA"][:4]


def test_tiny_run_is_never_put_in_a_published_figure_s_place(this_run: ThisRun) -> None:
    this_run = replace(this_run, profiles={"llava-1.5-7b": PROFILE})
    found = rows("unifood", this_run)
    ours = found["Dual-LoRA + VCE"]
    assert ours.state == "not measured here"
    assert ours.measured is None
    assert ours.orientation is not None
    assert ours.orientation[0] == "78.1"
    assert found["Dual-LoRA"].orientation is None, "another method than this run's"


def test_command_sets_the_method(this_run: ThisRun) -> None:
    this_run = replace(this_run, profiles={"llava-1.5-7b": PROFILE})
    expected = "lea profile llava-1.5-7b && dvc exp run -S adapter.kind=lora -S vce.enabled=false"
    assert rows("unifood", this_run)["LoRA"].detail == expected


def test_run_of_the_paper_s_setting_is_measured_here(big: ThisRun) -> None:
    row = rows("unifood", big)["Dual-LoRA + VCE"]
    assert row.state == "measured here"
    assert row.measured is not None
    assert row.measured[0] == "78.1"
    assert "feedfacefeed" in row.detail


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("unifood", "Dual-LoRA", "no profile llava-1.5-7b"),
        ("scienceqa", "Dual-LoRA", "no benchmark scienceqa"),
        ("general", "LLaVA-1.5", "no benchmark mmbench"),
        ("design", "one switch only (first row)", "lost which switch"),
    ],
)
def test_what_this_version_lacks_stands_in_place_of_a_command(
    this_run: ThisRun, name: str, row: str, reason: str
) -> None:
    found = rows(name, this_run)[row]
    assert found.state == "not measurable in this project"
    assert reason in found.detail


def test_settings_this_version_does_not_know_are_no_command(this_run: ThisRun) -> None:
    unknown = table("unifood").rows[0].model_copy(update={"settings": {"adapter.kind": "unheard_of"}})
    printed = table("unifood").model_copy(update={"rows": [unknown], "profile": None})
    row = ledger([printed], this_run)[0].rows[0]
    assert row.state == "not measurable in this project"
    assert "adapter.kind" in row.detail


def test_settings_are_judged_on_the_profile_s_levels(this_run: ThisRun) -> None:
    levels = {"vce": {"levels": [-2, -8, -14, -20], "anchor": -2}}
    this_run = replace(this_run, profiles={"llava-1.5-7b": PROFILE | levels})
    assert rows("anchor", this_run)["layer -8"].state == "not measured here"


def test_summary_counts_figures_by_state(this_run: ThisRun) -> None:
    assert ledger([table("unifood")], this_run)[0].summary == "60 not measurable in this project"


def test_times_of_the_benchmark_stand_beside_the_papers(this_run: ThisRun) -> None:
    found = rows("time", replace(this_run, times=TIMES))
    assert found["Dual-LoRA + VCE"].published == ["1.16"]
    assert found["Dual-LoRA + VCE"].orientation == ["1.03"]
    assert found["Dual-LoRA + VCE"].source.endswith("width 1024 on one core of A Processor, 2026-01-31")
    assert found["Dual-LoRA"].orientation is None


@pytest.fixture
def general(this_run: ThisRun) -> ThisRun:
    """A run of the profile for Table 5 that was asked POPE and MMBench."""
    overlay = profiles.overlay("llava-1.5-7b-general")
    scores = {"pope": {"f1": 87.2}, "mmbench": {"circular": 65.6, "single": 70.0}}
    return replace(
        this_run,
        params=validate_params(merged(this_run.params.model_dump(), overlay)),
        profiles={"llava-1.5-7b-general": overlay},
        metrics={"finetune": scores},
        benchmarks=frozenset(BENCHMARKS | PUBLISHED | JUDGED),
        run="feedface" * 8,
    )


def test_general_figures_are_percent_as_the_benchmarks_give_them(general: ThisRun) -> None:
    row = rows("general", general)["Dual-LoRA + VCE"]
    assert row.measured == ["65.6", "–", "–", "87.2", "–"]


def test_each_figure_of_a_row_has_a_state_of_its_own(general: ThisRun) -> None:
    found = ledger([table("general")], general)[0]
    ours = next(row for row in found.rows if row.name == "Dual-LoRA + VCE")
    this_run, not_here = "measured here", "not measured here"
    assert ours.states == [this_run, not_here, not_here, this_run, not_here]
    assert "not measured here: SEED image, LLaVA-W, MM-Vet (lea profile llava-1.5-7b-general && " in ours.detail
    assert found.rows[0].states == [not_here, None, not_here, not_here, not_here]
    assert found.rows[1].states == [not_here, None, not_here, not_here, not_here]
    assert found.summary == "16 not measured here, 2 measured here"


def test_columns_name_metrics_that_the_benchmarks_give() -> None:
    """A column whose metric no benchmark gives would never be measured."""
    given = {
        "mmbench": mmbench.score([], []).metrics,
        "mme": mme.score([], []).metrics,
        "pope": {"pope": {"f1": 0.0}},
        "seed_bench": {"seed_image": {"accuracy": 0.0}},
        "scienceqa": {"choice": {"accuracy_image": 0.0}},
    }
    known = {f"{task}.{metric}" for metrics in given.values() for task, of in metrics.items() for metric in of}
    for name in ("general", "vlora"):
        printed = table(name)
        for id, _, metric, _, _ in printed.columns:
            if id not in JUDGED:  # their figures are comparable under the published judge alone
                assert (metric in known) != (id in printed.unmeasurable_columns), id


def test_profiles_ask_what_their_table_prints() -> None:
    for name in ("general", "vlora"):
        printed = table(name)
        assert printed.profile
        overlay = profiles.overlay(printed.profile)
        assert set(printed.benchmarks) <= set(overlay["evaluate"]["benchmarks"]) == overlay["evaluate"]["files"].keys()


def study(data: str, name: str = "Dual-LoRA + VCE", **settings: object) -> dict[str, object]:
    """A table that was measured with two seeds, as tables/table1.json holds it."""
    params = load_params(Path(__file__).parents[2] / "params.yaml").model_dump()
    figures = {"ingredients.iou": {"mean": 0.5, "sd": 0.01, "values": [0.49, 0.51]}}
    runs = [{"seed": 1, "run": "one"}, {"seed": 2, "run": "two"}]
    row = {
        "settings": {"vce.enabled": True} | settings,
        "published": "Dual-LoRA + VCE",
        "runs": runs,
        "figures": figures,
    }
    first = {**row, "name": "LoRA", "published": "LoRA"}
    return {
        "published": ["unifood"],
        "profile": "tiny",
        "params": params,
        "params_digest": "p" * 64,
        "data_digest": data,
        "rows": [first, {**row, "name": name}],
        "differences": {f"ingredients.iou: {name} - LoRA": {"value": 0.02, "low": 0.01, "high": 0.03}},
    }


def test_figures_stand_in_six_columns_and_are_empty_where_not_measured(this_run: ThisRun) -> None:
    found = rows("unifood", replace(this_run, profiles={"llava-1.5-7b": PROFILE}, metrics={}))["LoRA"]
    iou = found.figures[0]
    assert (iou.heading, iou.printed) == ("IoU", "23.2")
    assert (iou.ours_printed, iou.ours_released, iou.seeds, found.reason) == ("", "", "", "")
    assert found.released_form == "not in the release"
    assert "dropout on the skill path only" in rows("unifood", this_run)["Dual-LoRA"].released_form
    assert "level -20" in rows("anchor", this_run)["layer -2"].released_form
    assert "5.517" in rows("size", this_run)["VCE"].released_form


def test_our_figure_on_this_data_stands_in_parentheses_with_seeds_interval_and_reason(this_run: ThisRun) -> None:
    here = replace(this_run, metrics={}, tables={"table1": study("d")}, data_digest="d")
    found = rows("unifood", here)["Dual-LoRA + VCE"]
    assert found.figures[0].ours_printed == "(50.0 ± 1.0)"
    assert found.figures[0].seeds == "2 seeds; +2.0 (+1.0 to +3.0) against LoRA"
    assert found.figures[1].ours_printed == ""
    assert found.reason == "another base and other data (profile tiny, 2 seeds)"


def test_our_tables_of_other_data_stand_nowhere(this_run: ThisRun) -> None:
    here = replace(this_run, metrics={}, tables={"table1": study("d")}, data_digest="of another run")
    found = rows("unifood", here)["Dual-LoRA + VCE"]
    assert found.orientation is None
    assert found.figures[0].ours_printed == ""


def test_released_form_has_a_column_of_its_own(this_run: ThisRun) -> None:
    table_ = study("d")
    table_["params"]["vce"]["form"] = "released"  # pyright: ignore[reportIndexIssue]
    here = replace(this_run, metrics={}, tables={"table1": table_}, data_digest="d")
    found = rows("unifood", here)["Dual-LoRA + VCE"]
    assert (found.figures[0].ours_printed, found.figures[0].ours_released) == ("", "(50.0 ± 1.0)")


def test_form_counts_only_in_parts_that_are_in_use() -> None:
    assert form_of({"vce": {"enabled": False, "form": "released"}}) == "paper"
    assert form_of({"vce": {"enabled": True, "form": "released"}}) == "released"
    assert form_of({"adapter": {"kind": "dual_lora", "form": "released"}}) == "released"
    assert form_of({"adapter": {"kind": "lora", "form": "released"}}) == "paper"
