"""The gate between `candidate` and `champion`: thresholds, better than blind, and not worse than the champions.

It compares like with like: figures that were taken under other conditions, and metrics that are missing on either
side, are a refusal that says what to do, never a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from components.errors import UserError
from components.metrics import PRINTED, Metric, find
from components.params import Gate

EMPTY = "no thresholds are set: registry.gate is empty"
ROUNDING = 1e-9  # a loss of exactly what is allowed passes, whatever the last bit of a difference says


@dataclass(frozen=True)
class Figures:
    """Flat metrics of the version that is judged. blind: shown other images; sighted: over the questions of `blind`."""

    all: Mapping[str, float]
    blind: Mapping[str, float] = field(default_factory=dict)
    sighted: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rival:
    """A version that is or was champion, with its figures under the same conditions; without any: `why`."""

    version: int
    is_champion: bool  # it is the champion now
    figures: Mapping[str, float] | None
    why: str = ""


@dataclass(frozen=True)
class Decision:
    passed: bool
    reasons: list[str]  # one sentence per comparison, those that failed first


@dataclass
class _Findings:
    good: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, fine: bool, sentence: str) -> None:
        (self.good if fine else self.bad).append(sentence)


def is_empty(gate: Gate) -> bool:
    return not gate.metrics


def unnamed(figures: Mapping[str, float], gate: Gate) -> list[str]:
    """Main metrics of the tasks that no condition names: a champion may be worse in them."""
    tasks = {name.partition(".")[0] for name in gate.metrics}
    return [name for name in PRINTED if name in figures and name.partition(".")[0] not in tasks]


def decide(figures: Figures, rivals: Sequence[Rival], gate: Gate) -> Decision:
    """Judge a version. rivals: none where there is no other champion; with `gate.compare_with: champion` one."""
    if is_empty(gate):
        return Decision(False, [EMPTY])
    found = _Findings()
    _thresholds(found, figures.all, gate)
    _against_blind(found, figures, gate)
    if gate.not_worse:
        _against_champions(found, figures.all, rivals, gate)
    reasons = [f"failed: {sentence}" for sentence in found.bad]
    reasons += [f"passed: {sentence}" for sentence in found.good]
    return Decision(not found.bad, reasons + [f"note: {sentence}" for sentence in found.notes])


def _thresholds(found: _Findings, figures: Mapping[str, float], gate: Gate) -> None:
    bounds: tuple[tuple[str, Mapping[str, float], str, Callable[[float, float], bool]], ...] = (
        ("at_least", gate.at_least, "at least", lambda value, bound: value >= bound),
        ("at_most", gate.at_most, "at most", lambda value, bound: value <= bound),
    )
    for name_of_field, limits, words, fine in bounds:
        for name, bound in limits.items():
            _row(name, name_of_field)
            if _measured(found, name, figures):
                value = figures[name]
                found.add(fine(value, bound), f"{name} {value:.4g} must be {words} {bound:.4g}")


def _against_blind(found: _Findings, figures: Figures, gate: Gate) -> None:
    for name, margin in gate.better_than_blind.items():
        row = _row(name, "better_than_blind")
        if not _measured(found, name, figures.all):
            continue
        if not finite(figures.blind, name) or not finite(figures.sighted, name):
            remedy = "hold out questions about more images, or run: dvc repro evaluate"
            found.add(False, f"{name} was not measured with the images of other questions; {remedy}")
            continue
        failed = sorted(each for each, number in figures.blind.items() if each.endswith(".failed") and number)
        if failed:  # they count as wrong, which would flatter the model
            asked = ", ".join(f"{each.partition('.')[0]}: {figures.blind[each]:.0f}" for each in failed)
            remedy = "run: dvc repro -sf evaluate"
            found.add(False, f"{name}: questions with the images of other questions failed ({asked}); {remedy}")
            continue
        gain = row.gain(figures.sighted[name], figures.blind[name])
        found.add(
            gain > 0 and gain >= margin - ROUNDING,
            f"{name} {figures.sighted[name]:.4g} must be at least {margin:.4g} better than "
            f"{figures.blind[name]:.4g} with the images of other questions",
        )


def _against_champions(found: _Findings, figures: Mapping[str, float], rivals: Sequence[Rival], gate: Gate) -> None:
    if not rivals:
        found.add(True, "no other champion to compare with")
    for rival in rivals:
        if rival.figures is None and rival.is_champion:
            found.add(False, f"not comparable with the champion, version {rival.version}: {rival.why}")
        elif rival.figures is None:
            found.notes.append(f"not compared with version {rival.version}, champion before: {rival.why}")
    for name, allowed in gate.not_worse.items():
        row = _row(name, "not_worse")
        if not _measured(found, name, figures):
            continue
        present = [one for one in rivals if one.is_champion and one.figures is not None]
        if any(not finite(one.figures or {}, name) for one in present):
            found.add(False, f"{name} was not measured for the champion, version {present[0].version}")
        known = [(one, one.figures[name]) for one in rivals if one.figures is not None and finite(one.figures, name)]
        if known:
            _compare(found, row, figures[name], known, allowed, name)


def _compare(
    found: _Findings, row: Metric, value: float, known: Sequence[tuple[Rival, float]], allowed: float, name: str
) -> None:
    """Against the best of the rivals; the present one among equals."""
    best, other = max(known, key=lambda one: (row.gain(one[1], 0.0), one[0].is_champion))
    who = "the champion's" if best.is_champion else f"that of version {best.version}, champion before:"
    fine = row.gain(value, other) >= -allowed - ROUNDING
    found.add(fine, f"{name} {value:.4g} may be at most {allowed:.4g} worse than {who} {other:.4g}")


def _measured(found: _Findings, name: str, figures: Mapping[str, float]) -> bool:
    """Whether there is a finite figure; a refusal where there is none."""
    ungraded = figures.get(f"{name.partition('.')[0]}.ungraded")
    if finite(figures, name) and not ungraded:
        return True
    if ungraded:  # left out of the mean: the worst answers are those that a judge does not grade
        found.bad.append(f"{name}: {ungraded:.0f} answers have no grade; run: dvc repro -sf evaluate")
        return False
    measured = ", ".join(sorted(figures)) or "nothing"
    found.bad.append(
        f"{name} was not measured, or is not a number; name another in registry.gate, or a benchmark that measures it "
        f"in evaluate.benchmarks (measured: {measured})"
    )
    return False


def finite(figures: Mapping[str, float], name: str) -> bool:
    return name in figures and math.isfinite(figures[name])


def _row(name: str, where: str) -> Metric:
    """The metric's row; UserError where it has none, or no direction where one is needed."""
    row = find(name)
    if row is None:
        raise UserError(f"params.yaml: registry.gate.{where} names {name!r}, which is no metric of this project")
    if row.direction is None and where in ("not_worse", "better_than_blind"):
        raise UserError(f"params.yaml: registry.gate.{where} names {name}, which has no better direction")
    return row
