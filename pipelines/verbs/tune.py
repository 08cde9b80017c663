"""`lea tune`: search settings by Ray Tune."""

from __future__ import annotations

import argparse
import json

SUMMARY = "search settings by the validation loss (params.yaml: tune), with Ray Tune"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on with a search that was killed")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    import sys
    from contextlib import redirect_stdout

    from components.params import load_params
    from pipelines import tune

    params = load_params()
    with redirect_stdout(sys.stderr if arguments.json else sys.stdout):
        try:
            result = tune.resume(params) if arguments.resume else tune.begin(params)
        except KeyboardInterrupt:
            print("tune: stopped; `lea tune --resume` goes on, `lea tune` begins anew", file=sys.stderr)
            raise
    if arguments.json:
        print(json.dumps(result))
    else:
        tune.print_result(result)
