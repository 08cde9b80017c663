"""What was trained on what, when, for how long and where: what a stranger needs before the first figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from components.params import Finetune, Params, Pretrain
from components.report.figures import count, duration
from components.report.inputs import Inputs
from components.report.ledger import ThisRun
from components.report.records import Registration

ADAPTERS = {"lora": "LoRA", "dual_lora": "Dual-LoRA", "lora_moe": "LoRA-MoE", "rode": "RoDE"}


def trained_on_what(params: Params, inputs: Inputs) -> str:
    """One sentence: the method, the base, and the sources of both stages with their training samples."""
    stages = (("stage 1", params.pretrain), ("stage 2", params.finetune))
    sources = "; ".join(f"{name} on {sources_of(recipe, inputs.splits)}" for name, recipe in stages)
    return f"{method(params)}, trained on {base_name(params, inputs.base)}: {sources}."


def method(params: Params) -> str:
    """`Dual-LoRA of rank 8 on q_proj, v_proj, with Visual Cue Enhancement`."""
    adapter = params.adapter
    targets = adapter.targets if isinstance(adapter.targets, str) else ", ".join(adapter.targets)
    learnt = f"{ADAPTERS[adapter.kind]} of rank {adapter.rank} on {targets}"
    if params.finetune.language_model == "trained":
        learnt = "The whole language model"
    parts = ["Visual Cue Enhancement"] if params.vce.enabled else []
    parts += ["VLoRA in place of visual tokens"] if params.connector.kind == "vlora" else []
    return f"{learnt}, with {' and '.join(parts)}" if parts else learnt


def base_name(params: Params, reference: Mapping[str, Any] | None) -> str:
    """The base by its names; of a local folder only the last part."""
    base = params.base
    if base.kind == "tiny":
        name = "the tiny model that this project trains from scratch on drawn plates"
    elif base.kind == "compose":
        name = f"{_plain(base.compose.language)} with the vision encoder {_plain(base.compose.vision)}"
    else:
        revision = (reference or {}).get("revision") or base.checkpoint.revision
        name = _plain(base.checkpoint.model) + (f" at {revision[:12]}" if revision else "")
    digest = (reference or {}).get("digest")
    return f"{name} ({digest[:12]})" if digest else name


def _plain(name: str) -> str:
    """A hub id as it is; of a path on this machine the folder's name."""
    return PurePath(name).name if name.startswith(("/", ".", "~")) or name.count("/") > 1 else name


def sources_of(recipe: Pretrain | Finetune, splits: Mapping[str, Any] | None) -> str:
    """`1 898 samples (captions 1 898)`: what the stage trained on, of its tasks."""
    if splits is None:
        return ", ".join(recipe.sources)
    counts = {name: _samples(splits.get(name, {}).get("train", {}), recipe.tasks) for name in recipe.sources}
    listed = ", ".join(f"{name} {count(number)}" for name, number in counts.items())
    return f"{count(sum(counts.values()))} samples ({listed})"


def _samples(of_split: Mapping[str, int], tasks: Sequence[str]) -> int:
    return sum(number for task, number in of_split.items() if task != "rows" and (not tasks or task in tasks))


def facts(this_run: ThisRun, inputs: Inputs, registration: Registration | None) -> list[tuple[str, str]]:
    """Name and value of what else is known of the run; what was not recorded is left out."""
    logs = [log for log in inputs.logs.values() if log]
    tested = sum(inputs.asked.get("finetune", {}).values())
    shown = [
        ("profile", this_run.params.profile),
        ("seed", str(this_run.params.seed)),
        ("tested on", f"{count(tested)} held-out questions" if tested else ""),
        ("training ended", f"{end:%Y-%m-%d %H:%M} UTC" if (end := ended(logs)) else ""),
        ("training took", _took(inputs.logs)),
        ("trained with", _hardware(logs, this_run.params)),
        ("model", f"{registration.name} version {registration.version}" if registration else ""),
        ("code", f"commit {this_run.commit}" if this_run.commit else ""),
        ("page written on", this_run.machine),
    ]
    return [(name, value) for name, value in shown if value]


def ended(logs: Iterable[Sequence[Mapping[str, float]]]) -> datetime | None:
    """When the last step was taken; None where the logs hold no times."""
    times = [row["time"] for log in logs for row in log if "time" in row]
    return datetime.fromtimestamp(max(times), UTC) if times else None


def _took(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Time in steps, stage by stage; starts, checkpoints and evaluation are not in it."""
    names = {"pretrain": "stage 1", "finetune": "stage 2"}
    spent = {names[stage]: sum(row.get("seconds", 0.0) for row in log) for stage, log in logs.items()}
    known = [f"{name} {duration(seconds)}" for name, seconds in spent.items() if seconds]
    return f"{', '.join(known)}, in steps alone" if known else ""


def _hardware(logs: Sequence[Sequence[Mapping[str, float]]], params: Params) -> str:
    rows = [row for log in logs for row in log if "workers" in row]
    if not rows:
        return ""
    workers = int(max(row["workers"] for row in rows))
    peak = max((row.get("memory_peak_bytes", 0.0) for row in rows), default=0.0)
    device = "with a GPU each" if params.training.use_gpu else "on CPU"
    memory = f", at most {peak / 1e9:.1f} GB of memory each" if peak else ""
    return f"{workers} worker{'s' * (workers > 1)} {device}{memory}"
