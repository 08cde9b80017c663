"""The `lea` command: a table of verbs, each a file of its own."""

from __future__ import annotations

import argparse
import sys
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
        self.exit(stage.MISTAKE, f"error: {self.prog}: {message}; see: {self.prog} --help\n")


def main() -> NoReturn:
    arguments = parser().parse_args()
    sys.exit(stage.guarded(lambda: VERBS[arguments.verb].run(arguments)))


def parser() -> argparse.ArgumentParser:
    lea = Parser(prog="lea", description="Local-Enhanced Adapters: what `dvc repro` does not do itself.")
    verbs = lea.add_subparsers(title="verbs", dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        verb.options(verbs.add_parser(name, help=verb.SUMMARY, description=verb.SUMMARY))
    return lea


if __name__ == "__main__":
    main()
