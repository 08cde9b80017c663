"""SIGKILL at random moments in real processes, against real folders and a real registry in SQLite.

Each command runs in a fork, which opens its own connections. What commands import lazily (MLflow, SQLAlchemy) is
imported once before: a fork that would import it again takes seconds.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from components.digests import folder_digest
from components.files import fresh_folder, write_json
from components.model.stored import model_digest
from components.params import Params, validate_params
from components.tracking.records import seal

ROOT = Path(__file__).parent.parent


def tries(name: str, folder: Path, count: int, chance: random.Random) -> Iterator[str]:
    """One string for each try: what was wrong, or empty."""
    folder.mkdir(parents=True)
    if name == "kills of fresh_folder":
        return folder_kills(folder, chance)
    if name == "promotions at once":
        return promotions_at_once(folder, count)
    return registry_kills(folder, name.removeprefix("kills of "), chance)


def forked(work: Callable[[], object], log: Path) -> int:
    """Start `work` in a fork of this process; its output goes to `log`. Its exit code is 0 or 1."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        work()
        code = 0
    except BaseException:  # a fork must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(number: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def done(work: Callable[[], object], log: Path) -> str:
    """Run to its end in a fork; the last lines of its output if it failed."""
    return "" if wait(forked(work, log)) == 0 else log.read_text(encoding="utf-8", errors="replace")[-300:]


def killed(work: Callable[[], object], log: Path, after_s: float) -> bool:
    """False where the process had ended before the kill came."""
    number = forked(work, log)
    time.sleep(after_s)
    os.kill(number, signal.SIGKILL)  # not yet waited for, so the number is still this process's
    return wait(number) == -signal.SIGKILL


def import_what(work: Callable[[], object], folder: Path) -> None:
    """Do the work in a fork, then import here what it imported, so that later forks find it in memory."""
    names = folder / "modules.txt"

    def noted() -> None:
        work()
        names.write_text("\n".join(sys.modules), encoding="utf-8")

    failure = done(noted, folder / "log.txt")
    assert not failure, failure
    warnings.simplefilter("ignore")
    for name in names.read_text(encoding="utf-8").split("\n"):
        if name not in sys.modules:
            with suppress(ImportError):  # modules that a library makes while it runs
                importlib.import_module(name)
    from mlflow.utils import requirements_utils

    requirements_utils._init_packages_to_modules_map()  # MLflow's cache of all installed packages: 2 s to make
    assert threading.active_count() == 1, "a fork would lack these threads, but not their locks"


def folder_kills(folder: Path, chance: random.Random) -> Iterator[str]:
    """The folder is an old or a new one, whole, or (before the first has ended) absent."""
    target, log = folder / "target", folder / "log.txt"

    def write_for_ever() -> None:
        version = 0
        while True:
            version += 1
            with fresh_folder(target) as fresh:
                for number in range(20):
                    (fresh / f"{number}.txt").write_text(f"{os.getpid()} {version}")

    while True:
        if not killed(write_for_ever, log, chance.uniform(0.005, 0.05)):
            yield f"the writer ended: {log.read_text(encoding='utf-8')[-300:]}"
            continue
        contents = {path.read_text() for path in target.glob("*")}
        torn = target.exists() and (len(contents) != 1 or len(list(target.glob("*"))) != 20)
        yield "a torn folder" if torn else ""


def registry_kills(folder: Path, command: str, chance: random.Random) -> Iterator[str]:
    """Kill a command; the next one must find one champion and a whole chain, and mend the rest."""
    params, log = laid_out(folder), folder / "log.txt"
    import_what(lambda: first_versions(folder, params), folder)
    number, longest_s = 0, 0.0
    while True:
        number += 1
        train(folder, str(number) if command == "register" else "0")
        work = {"promote": lambda n=number: force(n % 3 + 1, params), "register": lambda: register_now(params)}[command]
        if not longest_s:  # measured once
            start = time.monotonic()
            failure = done(work, log)
            assert not failure, failure
            longest_s = time.monotonic() - start
            continue
        if killed(work, log, chance.uniform(0, longest_s)):
            yield done(lambda work=work: mended_by(work), log)


def mended_by(work: Callable[[], object]) -> None:
    """Give the command again, then check alias and log."""
    from components.tracking import promotion_copy, promotion_log, registry, store

    work()
    client = store.connect()
    log = promotion_log.read(client, "lea")
    entries, moves = log.entries, log.moves("champion")
    assert [one.before for one in entries] == ["", *(one.digest for one in entries[:-1])], "the chain is broken"
    assert registry.alias_version(client, "lea", "champion") == moves[-1][1].to, "champion is not the log's"
    assert all(log.settled[place] for place, _ in moves), "a move is left open"
    assert [one.start for _, one in moves[1:]] == [one.to for _, one in moves[:-1]], "moves do not follow"
    assert not any(one.kind == "by hand" for one in entries), "taken for a move by hand"
    digests = [one.tags.get(registry.MODEL_TAG) for one in client.search_model_versions("name = 'lea'")]
    known = [one for one in digests if one]
    assert len(known) == len(set(known)), "a model was registered twice"
    lines = (Path(os.environ["LEA_HOME"]) / promotion_copy.COPY_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["digest"] for line in lines] == [one.digest for one in entries], "the copy is not the log"


def promotions_at_once(folder: Path, count: int) -> Iterator[str]:
    """`count` commands in as many processes, from two homes, against one database."""
    params, log = laid_out(folder), folder / "log.txt"
    import_what(lambda: first_versions(folder, params), folder)

    def one(number: int) -> None:
        os.environ["LEA_HOME"] = str(folder / f"home{number % 2}")
        force(number % 3 + 1, params)

    started = [forked(lambda number=number: one(number), folder / f"log{number}.txt") for number in range(count)]
    codes = [wait(number) for number in started]
    wrong = [(folder / f"log{number}.txt").read_text()[-200:] for number, code in enumerate(codes) if code]
    yield "; ".join(wrong) or done(lambda: mended_by(lambda: force(1, params)), log)


def force(version: int, params: Params) -> None:
    from components.tracking import promotion

    promotion.promote("lea", str(version), params.registry.gate, force=True)


def register_now(params: Params) -> None:
    from pipelines import register

    register.run(params)


def laid_out(folder: Path) -> Params:
    """A workspace as the stages leave it, with small files in place of weights; this process works there."""
    os.chdir(folder)
    os.environ.update(LEA_HOME=str(folder / "home"), MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
    for name in ("DVC_EXP_NAME", "DVC_ROOT", "LEA_BASE"):
        os.environ.pop(name, None)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    gate = {"at_least": {"ingredients.iou": 0.7}, "at_most": {}, "not_worse": {"ingredients.iou": 0.03}}
    tree["registry"] = {"name": "lea", "gate": gate}
    base = folder / "models/base"
    base.mkdir(parents=True)
    (base / "model.safetensors").write_text("the frozen weights")
    (base / "tokenizer.json").write_text("{}")
    write_json(base / "base.json", {"kind": "tiny", "id": "tiny", "revision": None, "digest": folder_digest(base)})
    train(folder, "0")
    return validate_params(tree)


def train(folder: Path, weights: str) -> None:
    """The outputs of `finetune` and `evaluate`, had they ended with these weights."""
    parts = folder / "models/finetune"
    (parts / "adapter").mkdir(parents=True, exist_ok=True)
    (parts / "connector.safetensors").write_text(f"connector {weights}")
    (parts / "adapter/adapter_config.json").write_text("{}")
    (parts / "adapter/adapter_model.safetensors").write_text(f"adapter {weights}")
    (parts / "log.csv").write_text("step,loss\n")
    base = json.loads((folder / "models/base/base.json").read_text())
    same = {"template": "v1", "image": "pad"}
    settings = {"base": base, "vce": None, "adapter": {"kind": "dual_lora"}, "run": f"finetune-{weights}", **same}
    write_json(parts / "model.json", {**settings, "data": {"unifood": "d" * 64}})
    iou = {"ingredients": {"iou": 0.8}}
    metrics = {"finetune": iou, "blind": {"ingredients": {"iou": 0.1}}, "differences": {}}
    conditions = {"questions": {"unifood": "q"}, "settings": {}, "code": {"c": "c"}, "versions": {"torch": "2"}}
    measured = {"model": model_digest(parts), "base": base["digest"], "data": {"unifood": "d" * 64}, **same}
    measured |= {"conditions": conditions, "sighted": iou}
    write_json(folder / "evaluation/metrics.json", metrics)
    write_json(folder / "evaluation/measured.json", {**measured, "seal": seal(metrics, measured)})


def first_versions(folder: Path, params: Params) -> None:
    """Three versions, each champion in its turn."""
    for weights in ("a", "b", "c"):
        train(folder, weights)
        register_now(params)
