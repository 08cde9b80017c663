"""`lea score`: score answers made elsewhere, in the layouts in which they are published."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from components.evaluation.offline.questions import Files

SUMMARY = "score answers made elsewhere, by a benchmark's rule"
NAMES = ("unifood", "scienceqa", "flickr30k", "pope", "mme", "mmbench", "seed_bench", "mm_vet", "llava_bench")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", choices=NAMES, metavar="BENCHMARK", help=", ".join(NAMES))
    parser.add_argument("--questions", type=Path, help="the published question file, where the benchmark needs it")
    parser.add_argument(
        "--answers",
        type=Path,
        action="append",
        required=True,
        help="answers, or recorded grades of mm_vet and llava_bench; several files are averaged",
    )
    parser.add_argument("--annotations", type=Path, help="what is right: a file, or a folder of files")
    parser.add_argument("--split", choices=("train", "validation", "test"), help="of annotations that declare several")
    parser.add_argument("--rule", help="another toolkit's rule (lmms_eval, vlmevalkit, ..)")
    parser.add_argument("--judge", metavar="MODEL", help="have answers to mm_vet and llava_bench graded by this model")
    parser.add_argument("--grades", type=Path, help="where its grades are kept (default: beside the answers)")
    parser.add_argument("--judge-prompt", type=Path, help="a text file that replaces our instructions to the judge")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.evaluation.offline import printing as telling
    from components.evaluation.offline.questions import Files
    from components.evaluation.offline.scoring import score_files

    name = arguments.benchmark
    files = Files(arguments.questions, arguments.annotations, tuple(arguments.answers), arguments.split)
    if arguments.judge:
        files = graded(name, files, arguments.judge, arguments.grades, arguments.judge_prompt)
    report = score_files(name, files, arguments.rule)
    told = json.dumps(telling.as_json(report)) if arguments.json else "\n".join(telling.lines(report))
    print(told.encode(errors="backslashreplace").decode())  # ids out of damaged files may be no text


def graded(name: str, files: Files, model: str, kept: Path | None, prompt: Path | None) -> Files:
    """The same files with the judge's grades for answers."""
    from dataclasses import replace

    from components.digests import digest
    from components.errors import UserError
    from components.evaluation.benchmarks import JUDGED
    from components.evaluation.judge.endpoint import Judge
    from components.evaluation.judge.grading import grade, grades_file, how_of
    from components.evaluation.offline.findings import Findings
    from components.locks import lock

    if name not in JUDGED:
        raise UserError(f"--judge: {name} is scored by a rule; a judge grades {' and '.join(JUDGED)}")
    if kept is not None and len(files.answers) > 1:
        raise UserError("--grades names one file; grade one --answers at a time with it")
    if prompt is not None and not prompt.is_file():
        raise UserError(f"{prompt} is missing; --judge-prompt is a text file")
    bench, judge = JUDGED[name], Judge.from_environment(model)
    instructions = prompt.read_text(encoding="utf-8").strip() if prompt else None
    paths = []
    for answers in files.answers:
        path = kept or grades_file(answers, model)
        findings = Findings()
        asks = list(bench.to_grade(answers, files, instructions, findings))
        for line in findings.lines:
            print(f"note: {line}", file=sys.stderr)
        with lock(f"grades-{digest(str(path.resolve()))[:16]}"):
            grade(asks, judge, path, **how_of(bench))
        paths.append(path)
    return replace(files, answers=tuple(paths))
