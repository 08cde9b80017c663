"""POPE's scores of anybody's answers, as `lea score pope` prints them, from Python.

    python examples/score_answers.py llava_pope_test.jsonl coco/ answers.jsonl

Answers are JSON lines {question_id, prompt, text}, as LLaVA writes them.
"""

import sys
from pathlib import Path

from components.errors import UserError
from components.evaluation.offline.printing import lines
from components.evaluation.offline.questions import Files
from components.evaluation.offline.scoring import score_files


def main(questions: str, annotations: str, *answers: str) -> dict[str, dict[str, float]]:
    files = Files(Path(questions), Path(annotations), tuple(Path(each) for each in answers))
    report = score_files("pope", files, rule=None)  # None: the benchmark's first rule, LLaVA's
    print("\n".join(lines(report)))
    return report.metrics


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except UserError as mistake:
        sys.exit(f"error: {mistake}")
