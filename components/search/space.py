"""The space of a search: settings of params.yaml by dotted key, each checked before anything starts."""

from __future__ import annotations

import difflib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.errors import UserError
from components.params import Params, validate_params
from components.params.trees import changed, flatten
from components.training.job import RESULT_SETTINGS

SECTIONS = ("connector", "vce", "adapter", "pretrain", "finetune", "training")  # what a trial may change
COMPARED = (
    "finetune.sources",
    "finetune.tasks",
    "finetune.template",
    "finetune.max_length",
)  # they decide what validation measures
MOST_POINTS = 4000  # that are checked; of a larger space so many are drawn


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched. `values`: the choices, or the two ends of a range."""

    key: str
    kind: str  # choice | uniform | log_uniform | int
    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        return value in self.values if self.kind == "choice" else self.values[0] <= value <= self.values[1]

    @property
    def is_ordered(self) -> bool:
        return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in self.values)


def read_space(params: Params) -> list[Dimension]:
    """The dimensions of tune.space. UserError for a key or a value that no trial could run with."""
    if not params.tune.space:
        raise UserError("params.yaml: tune.space is empty; name a setting, as in adapter.rank: {choice: [4, 8]}")
    tree = params.model_dump()
    settings = flatten({section: tree[section] for section in SECTIONS})
    space = [_dimension(key, entry, settings) for key, entry in params.tune.space.items()]
    if params.tune.search == "grid":
        _check_grid(space, params.tune.budget.trials)
    for point in points(space):
        _check_point(params, point)
    return space


def apply(params: Params, values: Mapping[str, Any]) -> Params:
    """The settings with `values` (by dotted key) put in, validated again. UserError names them."""
    tree = changed(params.model_dump(), values)  # a mapping's own keys may be new
    said = ", ".join(f"{key} {value}" for key, value in values.items())
    return validate_params(tree, f"params.yaml: tune.space with {said}")


def present(params: Params, space: Sequence[Dimension]) -> dict[str, Any] | None:
    """The present settings as a point of the space; None where they lie outside."""
    settings = flatten(params.model_dump())
    point = {dimension.key: settings[dimension.key] for dimension in space}
    return point if all(dimension.holds(point[dimension.key]) for dimension in space) else None


def points(space: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Points to check: all combinations of choices, whole numbers, and three numbers of each other range.

    Where those are too many: the lowest, the highest, and MOST_POINTS drawn ones, always the same.
    """
    values = [_values(dimension) for dimension in space]
    if math.prod(map(len, values)) <= MOST_POINTS:
        chosen = itertools.product(*values)
    else:
        drawn = random.Random(0)
        inner = (tuple(drawn.choice(some) for some in values) for _ in range(MOST_POINTS))
        chosen = itertools.chain([tuple(some[0] for some in values), tuple(some[-1] for some in values)], inner)
    for point in chosen:
        yield {dimension.key: value for dimension, value in zip(space, point, strict=True)}


def _values(dimension: Dimension) -> Sequence[Any]:
    if dimension.kind == "choice":
        return dimension.values
    low, high = dimension.values
    # A number inside, for a setting of whole numbers would take both ends and nothing else that is drawn.
    return range(low, high + 1) if dimension.kind == "int" else (low, low + (high - low) / math.e, high)


def _check_point(params: Params, point: Mapping[str, Any]) -> None:
    try:
        apply(params, point)
    except UserError:
        for key, value in point.items():  # in fewer words, where one setting alone is at fault
            apply(params, {key: value})
        raise


def encode(value: Any) -> Any:
    """A value that searchers take as one of a choice: lists and mappings as JSON text."""
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def decode(config: Mapping[str, Any], space: Sequence[Dimension]) -> dict[str, Any]:
    """A searcher's point as settings."""
    return {
        dimension.key: next((v for v in dimension.values if encode(v) == config[dimension.key]), config[dimension.key])
        if dimension.kind == "choice"
        else config[dimension.key]
        for dimension in space
    }


def domains(space: Sequence[Dimension], grid: bool) -> dict[str, Any]:
    """The space as Ray Tune takes it."""
    from ray import tune

    def domain(dimension: Dimension) -> Any:
        if dimension.kind == "choice":
            values = [encode(value) for value in dimension.values]
            return tune.grid_search(values) if grid else tune.choice(values)
        low, high = dimension.values
        if dimension.kind == "int":
            return tune.grid_search([*range(low, high + 1)]) if grid else tune.randint(low, high + 1)
        return tune.uniform(low, high) if dimension.kind == "uniform" else tune.loguniform(low, high)

    return {dimension.key: domain(dimension) for dimension in space}


def _dimension(key: str, entry: Mapping[Any, list[Any]], settings: Mapping[str, Any]) -> Dimension:
    where = f"params.yaml: tune.space.{key}"
    if key not in settings:
        raise UserError(_unknown(key, where, settings))
    if key in COMPARED:
        raise UserError(f"{where} cannot be searched: it decides what trials are compared on")
    if key.startswith("training.") and key.split(".")[1] not in RESULT_SETTINGS:
        raise UserError(f"{where} cannot be searched: it does not change what is learnt")
    if len(entry) != 1:
        raise UserError(f"{where} takes one of choice, uniform, log_uniform, int; found {', '.join(entry) or 'none'}")
    ((kind, values),) = entry.items()
    if kind == "choice":
        if not values:
            raise UserError(f"{where}: choice is empty; name at least one value")
        if isinstance(settings[key], float):
            values = [value if _number(value) is None else _number(value) for value in values]
        doubled = [value for place, value in enumerate(values) if value in values[:place]]
        if doubled:
            raise UserError(f"{where}: choice names {doubled[0]!r} twice")
        return Dimension(key, kind, tuple(values))
    ends = [_number(value) for value in values]
    if len(ends) != 2 or None in ends:
        raise UserError(f"{where}: {kind} takes two numbers, [low, high]; found {values}")
    low, high = ends
    if kind == "int" and not (float(low).is_integer() and float(high).is_integer()):
        raise UserError(f"{where}: int takes whole numbers; found {values}")
    if low >= high:
        raise UserError(f"{where}: the range {values} is empty; the first number must be below the second")
    if kind == "log_uniform" and low <= 0:
        raise UserError(f"{where}: log_uniform must begin above 0; found {values}")
    return Dimension(key, kind, (int(low), int(high)) if kind == "int" else (float(low), float(high)))


def _number(value: Any) -> Any:
    """A finite number, or None. YAML reads 1e-4 as text."""
    try:
        number = math.nan if isinstance(value, (bool, list, dict)) else float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _unknown(key: str, where: str, settings: Mapping[str, Any]) -> str:
    inside = [name for name in settings if name.startswith(f"{key}.")]
    if inside:
        return f"{where} is a section; search its settings: {', '.join(inside)}"
    near = difflib.get_close_matches(key, settings, n=3, cutoff=0.5)
    last = key.rpartition(".")[2]
    near = near or [name for name in settings if name.rpartition(".")[2] == last]
    hint = f"near names: {', '.join(near)}" if near else f"trials change settings of {', '.join(SECTIONS)}"
    return f"{where} is not a setting that a trial can change; {hint}"


def _check_grid(space: Sequence[Dimension], trials: int) -> None:
    for dimension in space:
        if dimension.kind not in ("choice", "int"):
            raise UserError(
                f"params.yaml: tune.space.{dimension.key}: a grid needs choice or int, not {dimension.kind}"
            )
    points = math.prod(len(d.values) if d.kind == "choice" else d.values[1] - d.values[0] + 1 for d in space)
    if points > trials:
        raise UserError(f"params.yaml: tune.search grid has {points} points, but tune.budget.trials is {trials}")
