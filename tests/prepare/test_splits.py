"""No group and no image in two splits, whatever shares what; and nothing moves when data are added."""

from __future__ import annotations

from collections import defaultdict
from typing import ClassVar

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.shards import INDEX_SCHEMA
from components.errors import UserError
from components.params import Splits
from components.prepare import splits as module
from components.prepare.splits import all_declare_train, assign, fingerprint

SHARES = Splits(validation=0.2, test=0.3)


class Rows:
    """The index of a prepared source, without the files."""

    manifest: ClassVar = {"digest": "records"}

    def __init__(self, *rows: tuple[str, str | None, str | None]):
        self.index = pa.table(
            {
                "group": [group for group, _, _ in rows],
                "image_hash": [image for _, image, _ in rows],
                "split": [split for _, _, split in rows],
                "ids": [["x", "y"] for _ in rows],
                "tasks": [["recipe", "caption"] for _ in rows],
                "tokens": [[1, 2] for _ in rows],
            },
            pa.schema([field for field in INDEX_SCHEMA if field.name != "digest"]),
        )


def singles(number: int, start: int = 0) -> Rows:
    return Rows(*((f"g{i}", f"h{i}", None) for i in range(start, start + number)))


def chosen(sources: dict[str, Rows], seed: int = 0, shares: Splits = SHARES) -> dict[tuple[str, int], str]:
    table, _ = assign(sources, shares, seed)  # type: ignore[arg-type]
    return {(row["source"], row["row"]): row["split"] for row in table.to_pylist()}


ROW = st.tuples(
    st.integers(0, 30).map("g{}".format),
    st.none() | st.integers(0, 30).map("h{}".format),
    st.sampled_from([None, None, "train", "validation", "test"]),
)


@given(st.lists(st.lists(ROW, max_size=25).map(lambda rows: Rows(*rows)), min_size=1, max_size=3), st.integers(0, 5))
def test_no_group_and_no_image_is_in_two_splits(sources: list[Rows], seed: int):
    named = {f"s{number}": rows for number, rows in enumerate(sources)} | {"more": singles(60, start=100)}
    split = chosen(named, seed)
    of_key = defaultdict[str, set[str]](set)
    for source, rows in named.items():
        for number, row in enumerate(rows.index.to_pylist()):
            of_key["group " + row["group"]].add(split[source, number])
            if row["image_hash"]:
                of_key["image " + row["image_hash"]].add(split[source, number])
    assert all(len(found) == 1 for found in of_key.values())
    assert chosen(dict(reversed(named.items())), seed) == split


def test_shares_come_out_and_depend_on_the_seed():
    one, two = (chosen({"a": singles(4000)}, seed) for seed in (1, 2))
    share = {name: sum(split == name for split in one.values()) / 4000 for name in ("train", "validation", "test")}
    assert share["test"] == pytest.approx(0.3, abs=0.03)
    assert share["validation"] == pytest.approx(0.2, abs=0.03)
    assert one != two


def test_appended_rows_and_photos_move_nothing():
    before = chosen({"a": singles(300)})
    more = Rows(*((f"g{i}", f"h{i}", None) for i in range(300)), *((f"g{i}", f"a{i}", None) for i in range(400)))
    after = chosen({"a": more, "b": singles(50, start=1000)})
    assert {key: after[key] for key in before} == before
    assert all(after["a", 300 + i] == after["a", i] for i in range(300))


@pytest.mark.parametrize(
    ("declared", "wanted"),
    [
        (("train", "test"), "test"),
        (("train", "validation"), "validation"),
        ((None, "train"), "train"),
        (("test", "validation"), "test"),
    ],
)
def test_declared_splits_win_for_all_that_is_joined(declared: tuple[str | None, str], wanted: str):
    rows = [Rows((f"g{i}", f"h{i}", declared[0]), (f"other{i}", f"h{i}", declared[1])) for i in range(20)]
    split = chosen({f"s{i}": one for i, one in enumerate(rows)} | {"more": singles(100, start=100)})
    assert {split[f"s{i}", number] for i in range(20) for number in (0, 1)} == {wanted}


def test_chain_over_three_sources_goes_one_way():
    chain = {
        "a": Rows(("g1", "h1", None)),
        "b": Rows(("g2", "h1", None), ("g2", "h2", None)),
        "c": Rows(("g3", "h2", "test")),
    }
    split = chosen(chain | {"more": singles(50, start=10)})
    assert {split["a", 0], split["b", 0], split["b", 1], split["c", 0]} == {"test"}


def test_summary_counts_rows_and_samples_by_task():
    table, summary = assign({"a": singles(100)}, SHARES, 0)  # type: ignore[dict-item]
    assert table.schema == module.SCHEMA
    rows = {split: counts["rows"] for split, counts in summary["a"].items()}
    assert sum(rows.values()) == 100
    assert all(counts["recipe"] == counts["rows"] for counts in summary["a"].values())


def test_fingerprint_of_a_stage_changes_with_its_own_sources_alone():
    def found(**sources: Rows) -> dict[str, object]:
        table, _ = assign(sources, SHARES, 0)  # type: ignore[arg-type]
        return fingerprint(sources, table, ["a"])  # type: ignore[arg-type]

    before = found(a=singles(50), b=singles(50, start=50))
    assert before["a"].keys() == {"records", "train", "validation", "test"}  # type: ignore[attr-defined]
    assert found(a=singles(50), b=singles(70, start=50)) == before
    assert found(a=singles(51), b=singles(50, start=51)) != before
    # an image of `a` that another source declares to be tested moves a row of `a`
    assert found(a=singles(50), b=Rows(("g99", "h3", "test"), ("g98", "h4", "train"))) != before


@pytest.mark.parametrize(("splits", "empty"), [(("train", "validation"), "test"), (("test",), "train")])
def test_empty_train_or_test_is_refused(splits: tuple[str, ...], empty: str):
    rows = Rows(*((f"g{split}", f"h{split}", split) for split in splits))
    with pytest.raises(UserError, match=f"declares its split, and none {empty}"):
        assign({"a": rows}, SHARES, 0)  # type: ignore[dict-item]


def test_rows_that_all_declare_train_are_divided_as_if_none_did():
    """A table from the hub says so in every row of the one part that was downloaded."""
    declared, plain = (Rows(*((f"g{n}", f"h{n}", split) for n in range(100))) for split in ("train", None))
    found, _ = assign({"a": declared}, SHARES, 0)  # type: ignore[dict-item]
    assert [all_declare_train([rows.index]) for rows in (declared, plain)] == [True, False]
    assert found == assign({"a": plain}, SHARES, 0)[0]  # type: ignore[dict-item]
    held, _ = assign({"a": declared, "b": singles(100, start=100)}, SHARES, 0)  # type: ignore[dict-item]
    assert {row["split"] for row in held.to_pylist() if row["source"] == "a"} == {"train"}


def test_too_few_rows_to_draw_a_test_split_are_refused():
    with pytest.raises(UserError, match="60 rows leave none for test; add data"):
        assign({"a": singles(60)}, Splits(validation=0.2, test=0.0), 0)  # type: ignore[dict-item]
