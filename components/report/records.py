"""What the stages recorded beside the scores: data, the registry's decision, settings, a line on each curve."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.params import Params
from components.report.figures import count, duration

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SourceRow:
    """A prepared source. Records are samples; `splits` counts those that were kept, in the order of SPLITS."""

    name: str
    kind: str
    read: str
    kept: str
    rejected: str
    reasons: str  # empty where nothing was rejected
    splits: list[str]
    digest: str


def data_rows(manifests: Mapping[str, Mapping[str, Any]], splits: Mapping[str, Any] | None) -> list[SourceRow]:
    """One row per manifest.json; `splits` is splits/summary.json: {source: {split: {task: samples, "rows": n}}}."""
    rows = []
    for name, manifest in manifests.items():
        records, of_source = manifest["records"], (splits or {}).get(name)
        reasons = records.get("reasons", {}).items()
        rows.append(
            SourceRow(
                name=name,
                kind=manifest["kind"],
                read=count(records["read"]),
                kept=count(records["kept"]),
                rejected=count(records["rejected"]),
                reasons=", ".join(f"{count(number)} {reason.replace('_', ' ')}" for reason, number in reasons),
                splits=[_samples(of_source, split) for split in SPLITS],
                digest=manifest["digest"][:12],
            )
        )
    return rows


def _samples(of_source: Mapping[str, Mapping[str, int]] | None, split: str) -> str:
    if of_source is None:
        return "–"
    return count(sum(number for task, number in of_source.get(split, {}).items() if task != "rows"))


FEWEST_LOSSES = 5  # that are averaged at the end of a log: one step is one batch's luck


def log_summary(log: Sequence[Mapping[str, float]]) -> str:
    """One line under a loss curve."""
    last = log[-1]
    losses = [row["loss"] for row in log if math.isfinite(row.get("loss", math.nan))]
    tail = losses[-max(FEWEST_LOSSES, len(log) // 20) :]
    parts = [f"{count(last.get('step', len(log)))} steps"]
    if tail:
        parts.append(f"mean loss of the last {len(tail)}: {sum(tail) / len(tail):.3f}")
    rates = [row["samples_per_s"] for row in log if "samples_per_s" in row]
    if rates:
        parts.append(f"{sorted(rates)[len(rates) // 2]:.1f} samples/s (median)")
    if "seconds" in last:
        parts.append(f"{duration(sum(row['seconds'] for row in log))} in steps")
    return ", ".join(parts)


@dataclass(frozen=True)
class Registration:
    """registration.json. `passed` is None where the gate was not used, as in an experiment."""

    name: str
    version: int
    aliases: list[str]
    passed: bool | None
    reasons: list[str]

    @property
    def sentence(self) -> str:
        aliases = f"the alias{'es' if len(self.aliases) > 1 else ''} {' and '.join(self.aliases)}"
        known = aliases if self.aliases else "no alias"
        empty = self.passed is not None and (not self.reasons or self.reasons[0].startswith("no thresholds"))
        gate = {True: "it passed the gate", False: "the gate refused it", None: "the gate was not used"}[self.passed]
        gate = "the gate has no thresholds, so nothing was tested" if empty else gate
        return f"This model is version {self.version} of {self.name} in the registry, with {known}; {gate}."


def registration_of(record: Mapping[str, Any] | None) -> Registration | None:
    if record is None:
        return None
    gate = record["gate"]
    return Registration(record["name"], record["version"], record["aliases"], gate["passed"], gate["reasons"])


def key_settings(params: Params) -> list[tuple[str, str]]:
    """The settings that decided what was learnt, under their names in params.yaml; what was not in use is left out."""
    shown: list[tuple[str, Any]] = [
        ("profile", params.profile),
        ("seed", params.seed),
        ("base.kind", params.base.kind),
        ("connector.kind", params.connector.kind),
        *([("connector.vlora", vlora.model_dump())] if (vlora := params.connector.chosen_vlora) else []),
        ("finetune.language_model", params.finetune.language_model),
        ("vce.enabled", params.vce.enabled),
        *(
            [(f"vce.{key}", value) for key, value in params.vce.model_dump().items() if key != "enabled"]
            * params.vce.enabled
        ),
        *_adapter_settings(params),
    ]
    for name, recipe in (("pretrain", params.pretrain), ("finetune", params.finetune)):
        for key in ("sources", "tasks", "epochs", "global_batch", "max_length", "template", "image", "warmup"):
            value = getattr(recipe, key)
            shown += [(f"{name}.{key}", value)] if value != [] else []
        shown += [(f"{name}.weight_decay", recipe.weight_decay), (f"{name}.learning_rate", _rates(params, name))]
    shown += [("training.precision", params.training.precision), ("evaluate.bootstrap", params.evaluate.bootstrap)]
    return [(key, _value(value)) for key, value in shown]


def _adapter_settings(params: Params) -> list[tuple[str, Any]]:
    adapter = params.adapter
    if params.finetune.language_model == "trained":  # all of it learns, without an adapter
        return []
    method = getattr(adapter, adapter.kind, None)
    common: list[tuple[str, Any]] = [
        (f"adapter.{key}", getattr(adapter, key)) for key in ("kind", "rank", "alpha_over_rank", "dropout", "targets")
    ]
    form = getattr(adapter, "form", None) if adapter.kind == "dual_lora" else None  # the others have one form
    common += [("adapter.form", form)] if form else []
    return common + ([(f"adapter.{adapter.kind}", method.model_dump())] if method is not None else [])


def _rates(params: Params, stage: str) -> dict[str, float]:
    """The learning rates of the parts that the stage trained."""
    trained = {
        "projector": params.connector.kind == "projector",
        "vlora": params.connector.kind == "vlora",
        "vce": params.vce.enabled,
        "adapter": params.finetune.language_model == "frozen",
        "language_model": params.finetune.language_model == "trained",
    }
    rates = getattr(params, stage).learning_rate.model_dump()
    return {part: rate for part, rate in rates.items() if trained.get(part, True)}


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return value if isinstance(value, str) else json.dumps(value)
