"""How a metric is named, scaled and printed. One table, so that page, Markdown and charts print the same digits."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A metric of metrics.json as the papers print it: value * factor with `decimals` digits."""

    name: str
    factor: float = 1.0
    decimals: int = 1
    higher_is_better: bool = True

    def text(self, value: float | None) -> str:
        """The printed value; a dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        return typeset(f"{value * self.factor:.{self.decimals}f}")

    def best(self, values: list[float | None]) -> set[int]:
        """Places of the best value, more than one where they print alike; none where all are equal."""
        printed = {place: self.text(value) for place, value in enumerate(values)}
        known = {place: value for place, value in enumerate(values) if value is not None and math.isfinite(value)}
        if len({printed[place] for place in known}) < 2:
            return set()
        winner = (max if self.higher_is_better else min)(known, key=lambda place: known[place])
        return {place for place in known if printed[place] == printed[winner]}


PERCENT = 100.0
FIGURES: dict[str, Figure] = {
    "ingredients.iou": Figure("IoU", PERCENT),
    "ingredients.f1": Figure("F1", PERCENT),
    "recipe.bleu": Figure("BLEU"),
    "recipe.rouge_l": Figure("ROUGE-L"),
    "nutrition.pmae": Figure("pMAE", higher_is_better=False),
    "nutrition.mass": Figure("mass", higher_is_better=False),
    "nutrition.calories": Figure("cal.", higher_is_better=False),
    "nutrition.fat": Figure("fat", higher_is_better=False),
    "nutrition.protein": Figure("protein", higher_is_better=False),
    "nutrition.carbohydrate": Figure("carb.", higher_is_better=False),
    "choice.accuracy": Figure("accuracy", PERCENT),
    "choice.accuracy_image": Figure("accuracy, with image", PERCENT),
    "caption.bleu": Figure("BLEU"),
    "caption.rouge_l": Figure("ROUGE-L"),
    "chat.rouge_l": Figure("ROUGE-L"),
}
# Numbers of answers, not scores: never ranked.
COUNTS = frozenset({"unparsed", "failed", "ungraded", "missing", "samples", "count"})


def figure(metric: str) -> Figure:
    """`task.metric` -> how to print it; a metric that is not in the table is printed as it stands."""
    return FIGURES.get(metric) or Figure(metric.split(".")[-1].replace("_", " "), decimals=2)


def count(value: float) -> str:
    """1234567 -> 1 234 567, with thin spaces that do not break."""
    return f"{value:,.0f}".replace(",", "\u202f")


def typeset(number: str) -> str:
    """A true minus sign."""
    return number.replace("-", "−")


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
