"""Moving `champion`: always written down, and through the gate unless it is forced or rolled back.

The log (promotion_log.py) comes first and the alias follows. Every command first mends what it finds (mending.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from components.errors import UserError
from components.locks import lock
from components.params import Gate
from components.tracking import judging, promotion_copy, promotion_log, records, registry, store, version_files
from components.tracking.gate import Decision
from components.tracking.judging import Case, Measure, Measured
from components.tracking.mending import follow, mended
from components.tracking.promotion_log import Entry, Kind, Log, next_entry
from components.tracking.records import Record
from components.tracking.registry import CANDIDATE, CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

ALIAS_LENGTH = 241  # MLflow takes 250 characters in the key of a tag; that of a judgement has nine before the alias
REASON_LENGTH = 1000  # an entry is one tag, for which MLflow takes 100,000 characters; later reasons quote this one


@dataclass(frozen=True)
class Promotion:
    """What became of an attempt. `before`: the version that held the alias until then.

    `passed`: what the gate said; None where no gate was asked. `moved`: in a trial run, whether it would move.
    """

    name: str
    version: int
    before: int | None
    passed: bool | None
    reasons: list[str]
    moved: bool
    alias: str = CHAMPION
    rolled_back: bool = False  # it was champion until a rollback, and is refused for that


def promote(
    name: str,
    which: str,
    gate: Gate,
    *,
    record: Record | None = None,
    measure: Measure | None = None,
    force: bool = False,
    source: Literal["repro", "promote"] = "promote",
    alias: str = CHAMPION,
    dry_run: bool = False,
) -> Promotion:
    """Give a version (number or alias) `alias` if the gate lets it, or by force.

    record: what was measured of it now; None: what the registry holds. measure: measures champions again that
    have no figures under the same conditions; this can take long, so nobody is kept waiting for it.
    dry_run: judge alone; nothing is written, but that files are damaged.
    """
    _check_alias(alias)
    client, measured = store.connect_to_read(), Measured()
    with store.answering(store.tracking_uri()):
        while True:
            with lock("registry"):
                log = promotion_log.read(client, name) if dry_run else mended(client, name)
                case = _case(client, name, which, log, record, alias)
                missing = [] if force or measure is None else judging.lacking(case, gate, measured)
                if not missing:
                    done = _judge_and_move(client, case, log, gate, measured, force, source, alias, dry_run)
                    if done is not None:
                        return done
            for version in missing:
                assert measure is not None
                judging.measure_again(version, case, measure, measured)


def rollback(name: str, reason: str) -> Promotion:
    """Give `champion` back to the champion before, without a gate. The one that goes is no bar for those to come.

    Former champions that were deleted in MLflow are passed over.
    """
    reason = _one_line(reason)
    client = store.connect_to_read()
    with store.answering(store.tracking_uri()), lock("registry"):
        while True:
            log = mended(client, name)
            there = registry.versions(client, name)
            held = log.holders(CHAMPION, there)
            before = [one for one in held if one != held[-1] and one in there]
            if not before:
                raise UserError(f"{name} has no champion before the present one; see: lea history")
            version_files.check(client, there[before[-1]])
            figures = registry.version_metrics(there[before[-1]])
            entry = next_entry(
                log, name, CHAMPION, held[-1], before[-1], "rollback", None, True, [reason], figures, there
            )
            if promotion_log.append(client, log, entry):
                follow(client, name, CHAMPION)
                return Promotion(name, before[-1], held[-1], None, [reason], True)


def _check_alias(alias: str) -> None:
    """UserError for a name that MLflow refuses: what stands in the log must be possible to carry out."""
    if alias == CANDIDATE:
        raise UserError(f"{CANDIDATE} is set by the stage register: dvc repro; --to names another alias")
    from mlflow.exceptions import MlflowException
    from mlflow.utils import validation

    try:
        validation._validate_model_alias_name(alias)
        validation._validate_model_alias_name_reserved(alias)
        validation._validate_model_version_tag(judging.gate_tag(alias), "")  # its key holds the alias too
    except MlflowException:
        raise UserError(
            f"--to {alias[:80]!r} is no name for an alias: letters, digits, _ and -, at most "
            f"{ALIAS_LENGTH}, and not latest, nor v and a number"
        ) from None


def _one_line(reason: str) -> str:
    """A reason as every terminal and file takes it: bytes of another encoding come as question marks."""
    line = " ".join(reason.encode("utf-8", "replace").decode("utf-8").split())
    if not line:
        raise UserError("--reason: say why the champion goes; the log keeps it")
    if len(line) > REASON_LENGTH:
        raise UserError(f"--reason: at most {REASON_LENGTH} characters, got {len(line)}")
    return line


def _case(client: MlflowClient, name: str, which: str, log: Log, record: Record | None, alias: str) -> Case:
    version = registry.resolve(client, name, which)
    before = registry.alias_version(client, name, CHAMPION)
    champion = client.get_model_version(name, str(before)) if before else None
    there = registry.versions(client, name)
    why = log.why_rolled_back(CHAMPION, judging.number(version), there) if alias == CHAMPION else None
    return judging.open_case(version, champion, log.holders(CHAMPION, there), there, record, why)


def _judge_and_move(
    client: MlflowClient,
    case: Case,
    log: Log,
    gate: Gate,
    measured: Measured,
    force: bool,
    source: Literal["repro", "promote"],
    alias: str,
    dry_run: bool,
) -> Promotion | None:
    """Judge, write down, move; None where another command was quicker and all must be looked at again."""
    name, number = case.version.name, judging.number(case.version)
    before = registry.alias_version(client, name, alias)
    decision, known = judging.judge(case, gate, measured, alias)
    move = before != number and (decision.passed or force)
    barred = case.is_barred and not force
    if move and source == "promote":  # the stage register has just put the files in order
        version_files.check(client, case.version)
    done = Promotion(name, number, before, decision.passed, decision.reasons, move, alias, barred)
    if dry_run:
        return done
    _keep_measured(client, case, measured)
    if move or (before != number and not known):
        entry = _judged(log, case, alias, before, source, decision, move)
        if not promotion_log.append(client, log, entry):
            return None
    if not known:
        judging.remember(client, case, gate, decision, alias)
    if move:
        follow(client, name, alias)
    else:
        promotion_copy.write(client, promotion_log.read(client, name))
    return done


def _keep_measured(client: MlflowClient, case: Case, measured: Measured) -> None:
    for version in [*([case.champion] if case.champion else []), *case.former]:
        found = measured.records.pop(judging.number(version), None)
        if found is not None:
            records.add(client, version, found)
            version.tags[f"{records.OWN_TAG}.{found.key}"] = records.as_tag(found)


def _judged(
    log: Log, case: Case, alias: str, before: int | None, source: Kind, decision: Decision, move: bool
) -> Entry:
    forced = [promotion_log.FORCED] if move and not decision.passed else []
    figures = dict(case.record.figures) if case.record else {}
    reasons, number = [*decision.reasons, *forced], judging.number(case.version)
    named = {number: case.version}
    return next_entry(
        log, case.version.name, alias, before, number, source, decision.passed, move, reasons, figures, named
    )
