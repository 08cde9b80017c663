"""How every stage runs: settings in, one function, and a user's mistake told in one line."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from components.errors import UserError

MISTAKE, INTERRUPTED = 2, 130  # exit codes


def main(run: Callable[..., Any]) -> NoReturn:
    """Run `run(params, *arguments)` of a stage module as a program and exit."""
    from components.params import load_params
    from pipelines.names import check_names

    def work() -> None:
        params = load_params()
        check_names(params)
        run(params, *(sys.argv[1:] or name_from_dvc()))

    sys.exit(guarded(work))


def name_from_dvc() -> list[str]:
    """`mine` where DVC runs `prepare@mine`; nothing for a stage without `foreach`, or outside DVC."""
    _, at, name = os.environ.get("DVC_STAGE", "").partition("@")
    return [name] if at else []


def guarded(work: Callable[[], Any]) -> int:
    """Do the work and return the exit code; what a user can mend becomes one line on standard error."""
    quiet()
    try:
        work()
        return 0
    except UserError as mistake:
        return _told(f"error: {mistake}", MISTAKE)
    except KeyboardInterrupt:
        return _told("interrupted; run the same command again to go on", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MISTAKE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EADDRINUSE):
            raise
        where = error.filename or Path.cwd()
        return _told(f"error: {where}: {os.strerror(error.errno).lower()}; mend that and run the same command again", 2)


def quiet() -> None:
    """Keep the libraries' own chatter off the screen; LEA_VERBOSE=1 lets it through."""
    if os.environ.get("LEA_VERBOSE"):
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    logging.getLogger().setLevel(logging.WARNING)
    for name in ("alembic.runtime.migration", "mlflow.store.db.utils", "DeepSpeed"):  # they set their own levels
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _told(line: str, code: int) -> int:
    print(line, file=sys.stderr, flush=True)
    return code
