"""The plan in words and tables."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from components.costs.card import MARGIN, USABLE
from components.params import Params, Training
from components.progress import print_table

GIB, MIB = 2**30, 2**20


def tell_plan(plan: Any, params: Params) -> None:
    """Print a plan: model, memory, time, what is assumed, and the published figures beside ours."""
    unit = "GPU" if params.training.use_gpu else "worker"
    _tell_model(plan, params, unit)
    _tell_memory(plan, params.training, unit)
    _tell_time(plan, params.training, unit)
    _tell_assumed(plan, unit)
    published = _table("ours and published", "ours", "published", "unit", "source")
    for row in plan["published"]:
        ours = f"{row['ours']:,.{row['digits']}f}"
        theirs = "not printed" if row["published"] is None else f"{row['published']:,}"
        published.add_row(row["what"], ours, theirs, row["unit"], row["source"])
    print_table(published, "\nThe formulas beside published figures")
    print(f"\n{params.profile} on {params.training.workers} {unit}s: {_in_short(plan)}")


def _tell_model(plan: Any, params: Params, unit: str) -> None:
    training = params.training
    model = _table("part", "parameters", f"MiB in {training.precision}", "trained")
    for name, part in plan["parameters"].items():
        mib = f"{part['bytes'] / MIB:,.2f}"
        model.add_row(name, f"{part['number']:,}", mib, "yes" if part["trained"] else "")
    mib = f"{sum(part['bytes'] for part in plan['parameters'].values()) / MIB:,.2f}"
    model.add_row("all", f"{plan['total']:,}", mib, f"{plan['trained']:,}")
    targets = params.adapter.targets
    adapter = f"{params.adapter.kind} rank {params.adapter.rank} on "
    adapter += targets if isinstance(targets, str) else ", ".join(targets)
    if params.finetune.language_model == "trained":
        adapter = "the language model is trained, without adapter"
    print_table(model, f"{params.profile}: {adapter}; {training.workers} {unit}s")


def _tell_memory(plan: Any, training: Training, unit: str) -> None:
    own, card = plan["memory"]["own"], plan["assumed"]["gpu_bytes"]
    memory = _table(f"finetune, GiB per {unit}", "ZeRO 0", "ZeRO 1", "ZeRO 2", "ZeRO 3")
    for row in plan["memory"]["longest"]["rows"]:
        cells = [_gib(row["zero"][str(stage)]) for stage in range(4)]
        mark = "  (set)" if row["micro_batch"] == training.micro_batch else ""
        memory.add_row(f"micro-batch {row['micro_batch']}{mark}", *cells)
    longest = plan["memory"]["longest"]["tokens"]
    legend = f"; * fits {card / GIB:g} GiB" if card else ""
    print_table(memory, f"\nMemory when every sample is {longest} tokens long{legend}")
    print(f"As set (ZeRO {training.zero_stage}, micro-batch {own['micro_batch']}), at {own['tokens']} tokens a sample:")
    pieces = ("weights", "gradients", "optimiser", "buffers", "working", "runtime")
    print("  " + " + ".join(f"{piece} {own[piece] / GIB:.2f}" for piece in pieces) + f" = {own['total'] / GIB:.2f} GiB")
    print("  " + verdict(plan))
    if training.precision == "bf16":
        print("  Training in bf16 takes ZeRO 2 or 3; 0 and 1 are for comparison.")


def _tell_time(plan: Any, training: Training, unit: str) -> None:
    assumed = plan["assumed"]
    money = assumed["price"] is not None
    cost = [f"cost at {assumed['price']:g} per {unit} hour"] if money else []
    time = _table("stage", "samples", "steps", "tokens each", "forward", "training", "total", "time", *cost)
    for name, stage in plan["stages"].items():
        flops, samples = stage["flops"], stage["samples"]
        total = _flop(flops["training"] * samples * stage["epochs"]) if samples else "?"
        cells = [f"{samples:,}" if samples else "?", f"{stage['steps']:,}" if samples else "?", str(stage["tokens"])]
        cells += [_flop(flops["forward"]), _flop(flops["training"]), total]
        cells += [_time(stage["hours"]) if samples else "?"]
        if money:
            cells += [f"{stage['price']:,.2f}" if samples else "?"]
        time.add_row(name, *cells)
    print_table(time, f"\nTime on {training.workers} {unit}s at {_flop(assumed['flops'])}/s each")
    flops = plan["stages"]["finetune"]["flops"]
    with_image, without = (_flop(flops[key]) for key in ("language_model", "language_model_text_only"))
    print(f"Forward of the language model alone: {with_image}, without visual tokens {without}.")
    if not all(stage["samples"] for stage in plan["stages"].values()):
        print("The size of a source is not known before it is prepared: run dvc repro splits, or give --samples.")


def _tell_assumed(plan: Any, unit: str) -> None:
    assumed = plan["assumed"]
    print(
        f"""
Assumed: {_texts(plan["stages"])}, half of them answers; no prefix shared between samples;
  {_flop(assumed["flops"])}/s sustained per {unit} (--flops; by default 40 % of an A100's peak in bf16, or a CPU core);
  sample counts of the prepared data, else as published or drawn (plates.sets), or --samples; fused attention;
  {assumed["runtime_bytes"] / GIB:g} GiB per {unit} for the runtime;
  {USABLE:.1%} of a card usable, {MARGIN:.0%} of what is needed kept free.
  Not counted in time: reading data, evaluation, start-up, failures, waiting for others."""
    )


def _in_short(plan: Any) -> str:
    """The verdict, time and price: the last line, where one looks first."""
    stages = plan["stages"].values()
    fits = verdict(plan) if plan["assumed"]["gpu_bytes"] else f"{plan['memory']['own']['total'] / GIB:.2f} GiB each."
    if not all(stage["samples"] for stage in stages):
        return fits
    said = f"{fits} Training: {_time(sum(stage['hours'] for stage in stages))}"
    if plan["assumed"]["price"] is not None:
        said += f", price {sum(stage['price'] for stage in stages):,.2f}"
    return f"{said}."


def verdict(plan: Any) -> str:
    """Whether a card holds the training as it is set, its longest samples included, and what would make it fit."""
    card, training = plan["assumed"]["gpu_bytes"], plan["training"]
    if not card:
        return "Say --gpu-memory, as in --gpu-memory 80GiB, to see what fits a card."
    stage, memory = str(training["zero_stage"]), plan["memory"]
    rows = memory["longest"]["rows"]
    fitting = [row["micro_batch"] for row in rows if row["zero"][stage]["fits"]]
    if training["micro_batch"] in fitting:
        return f"Fits {card / GIB:g} GiB, the longest samples too (up to micro-batch {max(fitting)})."
    longest = (
        f"longest samples fit up to micro-batch {max(fitting)}" if fitting else "longest sample does not fit at all"
    )
    what = "Fits, but not the longest samples" if memory["own"]["fits"] else "Does not fit"
    ways = [f"{_settings(one['settings'])} ({one['total'] / GIB:.1f} GiB)" for one in memory["remedies"]]
    advice = f" It fits with {', or '.join(ways)}." if ways else " No setting makes it fit: take a larger card."
    return f"{what}: in {card / GIB:g} GiB the {longest}.{advice}"


def _settings(settings: dict[str, Any]) -> str:
    return " and ".join(f"training.{name}={str(value).lower()}" for name, value in settings.items())


def _texts(stages: Any) -> str:
    """The text tokens of the stages, and whether they were counted."""
    said = {
        name: f"{stage['text_tokens']} text tokens a sample "
        + ("as counted in the prepared data" if stage["text_counted"] else "(--text-tokens)")
        for name, stage in stages.items()
    }
    if len(set(said.values())) == 1:
        return said["finetune"]
    return ", ".join(f"{text} in {name}" for name, text in said.items())


def _flop(number: float) -> str:
    size, unit = next(((s, u) for s, u in ((1e18, "E"), (1e12, "T")) if number >= s), (1e9, "G"))
    return f"{number / size:,.4g} {unit}FLOP"


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.3g} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"


def _gib(memory: Any) -> str:
    return f"{memory['total'] / GIB:.1f}" + (" *" if memory["fits"] else "  " if memory["fits"] is False else "")


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for other in others:
        table.add_column(other, justify="left" if other in ("unit", "source") else "right")
    return table
