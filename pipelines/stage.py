"""How every stage runs: settings in, one function, and a user's mistake as one line."""

from __future__ import annotations

import codecs
import errno
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from components.errors import UserError
from components.masking import masked

MISTAKE, INTERRUPTED = 2, 130  # exit codes
INSTALL = "pip install 'local-enhanced-adapters[pipeline]'"  # in the repository, make does it
# What files, disks and ports do, whatever the code. An OSError with another number is a fault of the program.
_OF_THE_MACHINE = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
        *(errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY, errno.EXDEV, errno.ENXIO, errno.ESTALE),
        *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ),
        *(errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH),
    }
)


def main(run: Callable[..., Any], tasks: Literal["before", "after"] | None = None) -> NoReturn:
    """Run `run(params, *arguments)` of a stage module as a program and exit.

    tasks: when to check that the splits hold what will be measured.
    """

    def work() -> None:
        from components.params import load_params
        from pipelines.names import check_names, check_tasks

        check_arguments(run, sys.argv)
        params = load_params()
        check_names(params)
        if tasks == "before":
            check_tasks(params)
        run(params, *(sys.argv[1:] or name_from_dvc()))
        if tasks == "after":
            check_tasks(params)

    sys.exit(guarded(work))


def name_from_dvc() -> list[str]:
    """`mine` where DVC runs `prepare@mine`; nothing for a stage without `foreach`, or outside DVC."""
    _, at, name = os.environ.get("DVC_STAGE", "").partition("@")
    return [name] if at else []


def check_arguments(run: Callable[..., Any], argv: Sequence[str]) -> None:
    """UserError where a stage gets more words than it takes."""
    try:
        inspect.signature(run).bind(None, *argv[1:])
    except TypeError:
        stage, most = Path(argv[0]).stem, len(inspect.signature(run).parameters) - 1
        takes = f"one argument, as in: {stage} NAME" if most else "no argument"
        raise UserError(f"stage {stage} takes {takes}; got {' '.join(argv[1:])}") from None


def guarded(work: Callable[[], Any]) -> int:
    """Do the work and return the exit code; what a user can mend becomes one line on standard error."""
    quiet()
    _print_anything()
    try:
        work()
        return 0
    except UserError as mistake:
        return _printed(f"error: {mistake}", MISTAKE)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "components", "pipelines", "_local_enhanced_adapters"):
            raise
        return _printed(f"error: {package} is not installed; run: {INSTALL}", MISTAKE)
    except KeyboardInterrupt:
        return _printed("interrupted; run the same command again to go on", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return MISTAKE
    except MemoryError as error:
        what = f" ({error})" if str(error) else ""
        return _printed(f"error: not enough memory{what}; use smaller batches, images or fewer workers", MISTAKE)
    except RuntimeError as error:
        torch = sys.modules.get("torch")  # what is not imported has not failed
        if torch is None or not isinstance(error, torch.OutOfMemoryError):
            raise
        advice = "end what else uses it (nvidia-smi), or see what fits: lea plan --gpu-memory 80GiB"
        return _printed(f"error: the GPU's memory is full; {advice}", MISTAKE)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        where = error.filename or Path.cwd()
        what = f"{where}: {os.strerror(error.errno).lower()}"
        return _printed(f"error: {what}; mend that and run the same command again", MISTAKE)


def quiet() -> None:
    """Keep the libraries' own chatter off the screen; LEA_VERBOSE=1 lets it through."""
    if os.environ.get("LEA_VERBOSE"):
        return
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # a hub that is away is retried five times, two lines each
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    logging.getLogger().setLevel(logging.WARNING)
    for name in ("alembic.runtime.migration", "mlflow.store.db.utils", "DeepSpeed"):  # they set their own levels
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


def _print_anything() -> None:
    """A terminal or a log file that is not UTF-8 gets \\u escapes: a letter must not end hours of work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not (_is_utf8(stream) and stream.errors == "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _is_utf8(stream: io.TextIOWrapper) -> bool:
    return codecs.lookup(stream.encoding).name == "utf-8"


def _printed(line: str, code: int) -> int:
    """Print one line, without passwords; what libraries say over several is joined."""
    line = masked(" ".join(line.splitlines())).encode(errors="backslashreplace").decode()
    print(line, file=sys.stderr, flush=True)
    return code
