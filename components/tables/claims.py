"""What the paper claims, put to these runs: one sentence for each claim, which says no more than the interval does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.report.comparisons import gap
from components.report.figures import figure
from components.tables.measured import Row, difference


@dataclass(frozen=True)
class Claim:
    """`better` scores above `worse`, rows of one study. `text`: the claim in words."""

    text: str
    better: str
    worse: str


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "table1": (
        Claim("Dual-LoRA is better than LoRA", "Dual-LoRA", "LoRA"),
        Claim("Dual-LoRA is better than LoRA-MoE with top-2 routing", "Dual-LoRA", "LoRA-MoE top-2"),
        Claim("Dual-LoRA is better than LoRA-MoE with softmax routing", "Dual-LoRA", "LoRA-MoE softmax"),
        Claim("Dual-LoRA is better than RoDE", "Dual-LoRA", "RoDE"),
        Claim("VCE makes Dual-LoRA better", "Dual-LoRA + VCE", "Dual-LoRA"),
        Claim("Dual-LoRA with VCE is better than LoRA", "Dual-LoRA + VCE", "LoRA"),
    ),
    "table3": (
        Claim("Dual-LoRA alone helps", "Dual-LoRA only", "neither"),
        Claim("VCE alone helps", "VCE only", "neither"),
        Claim("both are better than Dual-LoRA alone", "both", "Dual-LoRA only"),
        Claim("both are better than VCE alone", "both", "VCE only"),
    ),
    "table4": (
        Claim("the norm alone helps", "norm only", "neither"),
        Claim("the activation alone helps", "activation only", "neither"),
        Claim("both are better than the norm alone", "both", "norm only"),
        Claim("both are better than the activation alone", "both", "activation only"),
    ),
}


def claims_of(study: str, rows: Sequence[Row]) -> tuple[Claim, ...]:
    """The claims that a study is about; those of anchors and ranks follow from the rows' names, a profile's own."""
    names = [row.name for row in rows]
    if study == "anchors":
        first, *others = names
        return tuple(Claim(f"{first} is a better anchor than {other}", first, other) for other in others)
    if study == "ranks":
        pairs = [(f"Dual-{name}", name) for name in names if f"Dual-{name}" in names]
        return tuple(Claim(f"{one} is better than {other}", one, other) for one, other in pairs)
    return CLAIMS.get(study, ())


def verdicts(
    claims: Sequence[Claim], rows: Sequence[Row], metrics: Sequence[str], *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Each claim with `said` (a sentence), `verdict` on the first of `metrics`, and the differences in all of them."""
    by_name = {row.name: row for row in rows}
    found = []
    for claim in claims:
        if claim.better not in by_name or claim.worse not in by_name:
            continue
        one, other = by_name[claim.better], by_name[claim.worse]
        entries = {m: difference(m, one, other, resamples=resamples, seed=seed) for m in metrics}
        measured = {metric: entry for metric, entry in entries.items() if entry is not None}
        if measured:
            lead = next(iter(measured))
            found.append(
                {
                    "claim": claim.text,
                    "verdict": verdict(lead, measured[lead]),
                    "said": sentence(claim.text, measured),
                    "differences": measured,
                }
            )
    return found


def verdict(metric: str, entry: Mapping[str, float]) -> str:
    good = gap(entry, figure(metric)).good
    return {True: "holds", False: "does not hold", None: "undecided"}[good]


def sentence(claim: str, entries: Mapping[str, Mapping[str, float]]) -> str:
    """`Dual-LoRA is better than LoRA: holds in ingredients IoU +6.5 (+3.2 to +10.1); undecided in caption ...`."""
    by_verdict: dict[str, list[str]] = {"holds": [], "does not hold": [], "undecided": []}
    for metric, entry in entries.items():
        printed = figure(metric)
        down = "" if printed.higher_is_better else " ↓"
        name = f"{metric.partition('.')[0]} {printed.name}{down}"
        by_verdict[verdict(metric, entry)].append(f"{name} {gap(entry, printed).text}")
    parts = [f"{word} in {', '.join(named)}" for word, named in by_verdict.items() if named]
    return f"{claim[0].upper()}{claim[1:]}: {'; '.join(parts)}."
