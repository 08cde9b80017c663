"""The benchmark's figures; how long something takes is no test's matter."""

from __future__ import annotations

from benchmarks.adapters import CONTROL, dispatches, language_model, ratios, table


def test_ratio_lies_between_its_quartiles() -> None:
    rows = ratios({"short": lambda: sum(range(50_000)), "long": lambda: sum(range(500_000))}, rounds=5)
    low, high = rows["long"]["quartiles"]
    assert 1 < low <= rows["long"]["ratio"] <= high
    assert rows["short"] == {"seconds": rows["short"]["seconds"], "ratio": 1.0, "rounds": 5}


def test_a_second_lora_stands_beside_the_first() -> None:
    measured = {"128 qv": dict(language_model(128, "qv", ["prefill"], ["lora", CONTROL], rounds=1))}
    row = measured["128 qv"]["prefill"][CONTROL]
    assert row["quartiles"] == [row["ratio"], row["ratio"]]
    printed = table({"ratios": measured, "dispatches": dispatches()})
    assert f"{row['ratio']:.3f} to {row['ratio']:.3f}" in printed
