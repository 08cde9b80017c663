"""`lea plan`: what the settings, or a profile, will need: parameters, memory per GPU, hours; no weights are loaded."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.params import Params

SUMMARY = "what the settings, or a profile, will need: parameters, memory per GPU, hours"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", nargs="?", help="a profile merged in memory (default: params.yaml as it is)")
    parser.add_argument("--gpus", type=int, metavar="N", help="train on N GPUs (default: training.workers)")
    parser.add_argument("--gpu-memory", metavar="SIZE", help="memory of a card, as in 24GiB: says what fits")
    parser.add_argument("--flops", metavar="RATE", help="sustained per GPU, as in 125TFLOPS or 125e12")
    parser.add_argument("--price", type=float, help="of a GPU hour, in any currency")
    parser.add_argument("--samples", type=int, help="per epoch and stage (default: of the named sources, if known)")
    parser.add_argument(
        "--text-tokens",
        type=int,
        help="of a sample, beside its image (default: as counted in the prepared data, else 128)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.costs import units
    from components.costs.plan import STEPS, Assumed, plan
    from components.costs.report import tell_plan
    from components.params import load_params, profiles
    from components.progress import Bar

    said: dict[str, Any] = {
        "price": units.not_negative(arguments.price, "--price"),
        "samples": units.at_least_one(arguments.samples, "--samples"),
        "text_tokens": units.at_least_one(arguments.text_tokens, "--text-tokens"),
    }
    if arguments.gpu_memory is not None:
        said["gpu_bytes"] = units.quantity(arguments.gpu_memory, units.BYTES, "--gpu-memory", "24GiB")
    if arguments.flops is not None:
        said["flops"] = units.quantity(arguments.flops, units.FLOPS, "--flops", "125TFLOPS")
    assumed = Assumed(**{name: value for name, value in said.items() if value is not None})
    params = profiles.load(arguments.profile) if arguments.profile else load_params()
    if units.at_least_one(arguments.gpus, "--gpus"):
        params = on_gpus(params, arguments.gpus)
    with Bar("parts of the plan", STEPS) as bar:
        planned = plan(params, assumed, bar.at)
    if arguments.json:
        print(json.dumps(planned))
    else:
        tell_plan(planned, params)


def on_gpus(params: Params, gpus: int) -> Params:
    """The settings with so many GPUs, one for each worker."""
    from components.params import validate_params
    from components.params.trees import changed

    fewest = params.training.min_workers
    settings = {
        "training.workers": gpus,
        "training.min_workers": fewest if fewest and fewest <= gpus else None,
        "training.use_gpu": True,
    }
    return validate_params(changed(params.model_dump(), settings), f"--gpus {gpus}")
