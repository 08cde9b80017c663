"""`lea score`: score answers made elsewhere, in the layouts in which they are published."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import UserError

if TYPE_CHECKING:
    from components.evaluation.judge.endpoint import Judge
    from components.evaluation.offline.questions import Files

SUMMARY = "score answers made elsewhere, by a benchmark's rule"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "benchmark", metavar="BENCHMARK", help="pope, mmbench, ..; an unknown name, with any --answers, lists all"
    )
    parser.add_argument("--questions", type=Path, help="the published question file, where the benchmark needs it")
    parser.add_argument(
        "--answers",
        type=Path,
        action="append",
        required=True,
        help="answers, or recorded grades where a judge grades; several files are averaged",
    )
    parser.add_argument("--annotations", type=Path, help="what is right: a file, or a folder of files")
    parser.add_argument("--split", choices=("train", "validation", "test"), help="of annotations that declare several")
    parser.add_argument("--rule", help="another toolkit's rule (lmms_eval, vlmevalkit, ..)")
    parser.add_argument("--judge", metavar="MODEL", help="have open answers graded by this model")
    parser.add_argument("--grades", type=Path, help="where its grades are kept (default: beside the answers)")
    parser.add_argument("--judge-prompt", type=Path, help="a text file that replaces our instructions to the judge")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.evaluation.benchmarks import JUDGED, PUBLISHED
    from components.evaluation.offline import printing
    from components.evaluation.offline.questions import Files
    from components.evaluation.offline.scoring import score_files

    name = arguments.benchmark
    if name not in PUBLISHED and name not in JUDGED:
        raise UserError(f"lea score knows no benchmark {name!r}; it knows {', '.join([*PUBLISHED, *JUDGED])}")
    files = Files(arguments.questions, arguments.annotations, tuple(arguments.answers), arguments.split)
    if arguments.judge:
        files = with_grades(name, files, arguments.judge, arguments.grades, arguments.judge_prompt)
    report = score_files(name, files, arguments.rule)
    text = json.dumps(printing.as_json(report)) if arguments.json else "\n".join(printing.lines(report))
    print(text.encode(errors="backslashreplace").decode())  # ids out of damaged files may be no text


def with_grades(name: str, files: Files, model: str, kept: Path | None, prompt: Path | None) -> Files:
    """The same files with the judge's grades for answers."""
    from dataclasses import replace

    from components.evaluation.benchmarks import JUDGED
    from components.evaluation.judge.endpoint import Judge
    from components.evaluation.judge.grading import grades_file

    if name not in JUDGED:
        raise UserError(f"--judge: {name} is scored by a rule; a judge grades {' and '.join(JUDGED)}")
    if kept is not None and len(files.answers) > 1:
        raise UserError("--grades names one file; grade one --answers at a time with it")
    if kept is not None and (kept.is_dir() or not kept.parent.is_dir()):
        raise UserError(f"--grades {kept} must name a file in a folder that exists")
    judge, instructions = Judge.from_environment(model), read_prompt(prompt) if prompt else None
    paths = []
    for answers in files.answers:
        path = kept or grades_file(answers, model)
        grade_file(name, answers, files, judge, instructions, path)
        paths.append(path)
    return replace(files, answers=tuple(paths))


def grade_file(name: str, answers: Path, files: Files, judge: Judge, instructions: str | None, path: Path) -> None:
    """Have the answers of one file graded into `path`."""
    from components.digests import digest
    from components.evaluation.benchmarks import JUDGED
    from components.evaluation.judge.grading import grade, how_of
    from components.evaluation.offline.findings import Findings
    from components.locks import lock
    from components.workspace import home

    bench, findings = JUDGED[name], Findings()
    requests = list(bench.to_grade(answers, files, instructions, findings))
    for line in findings.lines:
        print(f"note: {line}", file=sys.stderr)
    folder = path.resolve().parent  # run state is held under its own name, which `lea clean` asks for
    with lock(folder.name if folder.parent == home() / "runs" else f"grades-{digest(str(path.resolve()))[:16]}"):
        grade(requests, judge, path, **how_of(bench))


def read_prompt(path: Path) -> str:
    """The text of `--judge-prompt`."""
    if not path.is_file():
        raise UserError(f"{path} is missing; --judge-prompt is a text file")
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 for --judge-prompt") from None
    if not text:
        raise UserError(f"{path} is empty; --judge-prompt is the text of the instructions to the judge")
    return text
