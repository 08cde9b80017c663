"""The `lea` command: a table of verbs, each a file of its own."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipelines import stage
from pipelines.verbs import (
    check,
    clean,
    compare,
    export,
    fetch,
    history,
    import_,
    plan,
    predict,
    profile,
    promote,
    rollback,
    score,
    serve,
    tune,
)

VERBS = {
    "profile": profile,
    "fetch": fetch,
    "check": check,
    "plan": plan,
    "predict": predict,
    "promote": promote,
    "history": history,
    "rollback": rollback,
    "serve": serve,
    "export": export,
    "score": score,
    "compare": compare,
    "tune": tune,
    "import": import_,
    "clean": clean,
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, like every other mistake's."""

    def error(self, message: str) -> NoReturn:
        chosen = re.search(r"invalid choice: '([^']*)'", message)
        near = difflib.get_close_matches(chosen[1], VERBS, n=1) if chosen and self.prog == "lea" else []
        hint = f"; did you mean {near[0]}?" if near else ""
        self.exit(stage.MISTAKE, f"error: {self.prog}: {message}{hint}; see: {self.prog} --help\n")


def main() -> NoReturn:
    arguments = arguments_of(sys.argv[1:])
    sys.exit(stage.guarded(lambda: VERBS[arguments.verb].run(arguments)))


def arguments_of(words: Sequence[str]) -> argparse.Namespace:
    lea = parser()
    if not words:
        lea.print_help(sys.stderr)
        lea.exit(stage.MISTAKE)
    arguments, unknown = lea.parse_known_args(words)
    if unknown:
        lea.prog = f"lea {arguments.verb}"  # whose help names its options
        lea.error(f"unrecognized arguments: {' '.join(unknown)}")
    return arguments


def parser() -> argparse.ArgumentParser:
    lea = Parser(prog="lea", description="Local-Enhanced Adapters: what `dvc repro` does not do itself.")
    verbs = lea.add_subparsers(title="verbs", dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        verb.options(verbs.add_parser(name, help=verb.SUMMARY, description=verb.SUMMARY))
    return lea


if __name__ == "__main__":
    main()
