"""Text lengths come from the index of what is prepared."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.costs.text_lengths import TEMPLATE_TOKENS, mean_text_tokens
from components.data.shards import INDEX_SCHEMA
from components.errors import UserError
from components.params import Params
from components.params.section import Template
from tests.costs.test_samples import OWN, prepared, with_source


def index(root: Path, rows: list[dict[str, list]]) -> None:
    whole = [{"group": "g", "ids": row["tasks"], "digest": bytes(32), **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(whole, INDEX_SCHEMA), root / "data/prepared/mine/index.parquet")


@pytest.fixture
def own(params: Params) -> Params:
    return with_source(params, "mine", **OWN)


def test_mean_is_over_samples_of_the_wanted_tasks(own: Params, tmp_path: Path) -> None:
    prepared(tmp_path, "mine", OWN, {"caption": 2, "chat": 2}, rows=2)
    index(
        tmp_path,
        [{"tasks": ["caption", "chat"], "tokens": [10, 100]}, {"tasks": ["caption", "chat"], "tokens": [30, 5000]}],
    )
    template = TEMPLATE_TOKENS[own.finetune.template]
    assert mean_text_tokens(own, own.finetune, 1000, tmp_path) == round(
        (10 + 30 + 100 + 3 * template + 1000) / 4  # the longest is cut
    )
    captions = own.finetune.model_copy(update={"tasks": ["caption"]})
    assert mean_text_tokens(own, captions, 1000, tmp_path) == 20 + template


def test_every_template_has_its_tokens() -> None:
    assert set(TEMPLATE_TOKENS) == set(get_args(Template))


def test_a_source_that_is_not_prepared_says_nothing(own: Params, tmp_path: Path) -> None:
    assert mean_text_tokens(own, own.finetune, 1000, tmp_path) is None


def test_a_damaged_index_is_one_line(own: Params, tmp_path: Path) -> None:
    prepared(tmp_path, "mine", OWN, {"caption": 1}, rows=1)
    (tmp_path / "data/prepared/mine/index.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"index.parquet cannot be read .*; run: dvc repro prepare") as caught:
        mean_text_tokens(own, own.finetune, 1000, tmp_path)
    assert "\n" not in str(caught.value)
