from __future__ import annotations

import pytest

from components.errors import UserError
from components.params import Params
from components.params.trees import setting
from components.report.ledger import read_published
from components.tables.variants import STUDIES, study


def test_there_is_a_study_for_each_comparison_of_the_paper() -> None:
    assert list(STUDIES) == ["table1", "table3", "table4", "anchors", "forms", "ranks"]


@pytest.mark.parametrize("name", STUDIES)
def test_variants_are_valid_settings_and_differ(name: str, params: Params) -> None:
    variants = STUDIES[name].variants(params)
    trees = [variant.params(params, 5) for variant in variants]
    assert {tree.seed for tree in trees} == {5}
    assert len({tree.model_dump_json() for tree in trees}) == len({variant.name for variant in variants}) == len(trees)


@pytest.mark.parametrize("name", STUDIES)
def test_variants_hold_the_settings_of_their_published_rows(name: str, params: Params) -> None:
    """Ranks and layers are the profile's own: there the rows correspond by their place."""
    own = {"adapter.rank", "vce.anchor"}
    published = {table.id: {row.name: row.settings for row in table.rows} for table in read_published()}
    for variant in STUDIES[name].variants(params):
        if variant.row is None:
            continue
        tree = variant.params(params, 1).model_dump()
        wanted = published[STUDIES[name].published][variant.row]
        assert {key: setting(tree, key) for key in wanted if key not in own} == {
            key: value for key, value in wanted.items() if key not in own
        }


def test_table1_has_the_paper_s_rows_and_every_method_with_and_without_vce(params: Params) -> None:
    variants = STUDIES["table1"].variants(params)
    assert [variant.row for variant in variants if variant.row] == [row.name for row in read_published()[0].rows]
    plain = [variant.name for variant in variants if not variant.params(params, 1).vce.enabled]
    assert [*plain, *(f"{name} + VCE" for name in plain)] == [variant.name for variant in variants]
    assert len(plain) == 6


def test_forms_stand_in_pairs_that_differ_in_the_form_alone(params: Params) -> None:
    variants = STUDIES["forms"].variants(params)
    for printed, released in zip(variants[::2], variants[1::2], strict=True):
        alike = {"adapter.form": "paper", "vce.form": "paper"}
        assert {**released.settings, **alike} == printed.settings
        assert "(released)" in released.name
    anchors = {str(variant.settings["vce.anchor"]) for variant in variants}
    assert anchors == {str(params.vce.levels[0]), str(params.vce.levels[-1])}


def test_ranks_are_half_once_and_twice_the_profile_s(params: Params) -> None:
    ranks = [variant.params(params, 1).adapter.rank for variant in STUDIES["ranks"].variants(params)]
    assert ranks == [4, 8, 16, 4, 8, 16]


def test_unknown_table_is_reported_with_the_known(params: Params) -> None:
    with pytest.raises(UserError, match="no table 'table9'; known: table1, table3"):
        study("table9")
