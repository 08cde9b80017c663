"""The stage itself on a tiny model with random weights: what it writes, and that a killed one goes on."""

import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image

from components.batching.sampler import split_rows
from components.data import tasks
from components.data.schema import Row
from components.data.shards import ShardWriter, index_digests
from components.errors import UserError
from components.evaluation.benchmarks import JUDGED
from components.evaluation.inference import answering
from components.evaluation.inference.asking import questions
from components.evaluation.inference.journal import Failed
from components.evaluation.inference.systems import Systems
from components.evaluation.judge.benchmarks import graded, judged_questions
from components.files import write_json
from components.locks import lock_if_free
from components.model import assemble
from components.model.base import load_base, save_base
from components.model.weights import save_parts
from components.params import BenchmarkFiles, Params, load_params
from components.prepare import splits
from components.tracking.records import seal
from components.tracking.registry import model_digest
from pipelines import cli, evaluate, stage
from tests.judge_server import Server

REPOSITORY = Path(__file__).parents[2]
NUM_TEST = 4  # dishes; two photos each


@pytest.fixture(scope="module")
def params() -> Params:
    changes: dict[str, Any] = {
        "evaluate": {"max_new_tokens": 6, "batch": 4, "bootstrap": 100, "samples_shown": 3},
        "vce": {"levels": [-2, -3], "num_heads": 2},
    }
    tree = load_params(REPOSITORY / "params.yaml").model_dump()
    for section, values in changes.items():
        tree[section] |= values
    return Params.model_validate(tree)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: Any, assistant: Any, picture: Callable[[int], bytes], params: Params) -> Path:
    """Base, two sets of parts, prepared sources and their splits, as the earlier stages leave them."""
    root = tmp_path_factory.mktemp("workspace")
    base = root / evaluate.BASE
    base.mkdir(parents=True)
    save_base(base, deepcopy(assistant.model), assistant.tokenizer, assistant.image_processor, "tiny", "tiny")
    for folder, adapter in ((evaluate.PRETRAIN, None), (evaluate.FINETUNE, params.adapter)):
        (root / folder).mkdir(parents=True)
        held = load_base(base)
        model, wrapped = assemble.build(held, params.vce, adapter)
        weights = {n: p.detach().normal_(std=0.3) for n, p in model.named_parameters() if p.requires_grad}
        settings = {
            "base": held.reference,
            "vce": params.vce.model_dump(),
            "adapter": adapter.model_dump() if adapter else None,
        }
        save_parts(root / folder, settings, weights, wrapped)
    for source, rows in {
        "unifood": dishes(picture),
        "scienceqa": choices(picture),
        "flickr30k": captions(picture),
    }.items():
        write_source(root / evaluate.PREPARED / source, rows)
    assignments = [
        {"source": source, "row": row, "split": "test" if row < 2 * NUM_TEST else "train"}
        for source, count in (("unifood", 2 * NUM_TEST + 3), ("scienceqa", 4), ("flickr30k", 3))
        for row in range(count)
    ]
    path = root / evaluate.ASSIGNMENTS
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(assignments, splits.SCHEMA), path)
    return root


def write_source(folder: Path, rows: list[Row]) -> None:
    folder.mkdir(parents=True)
    writer = ShardWriter(folder / "shard-00000.parquet", folder / "index.parquet")
    for row in rows:
        seen = sha256(row.image).hexdigest() if row.image else None
        writer.add(replace(row, image_hash=seen), [1] * len(row.samples))
    write_json(folder / "manifest.json", {"shards": [writer.close()], **index_digests(folder / "index.parquet")})


def dishes(picture: Callable[[int], bytes]) -> list[Row]:
    def dish(number: int) -> Row:
        name = f"dish{number // 2}"
        nutrition: dict[str, float] = dict.fromkeys(tasks.NUTRITION_FIELDS, 100.0 + 10 * number)
        samples = [
            tasks.ingredients_sample(f"{number}i", ["word1", f"word{number}"]),
            tasks.recipe_sample(f"{number}r", "word1 word2 word3"),
            tasks.nutrition_sample(f"{number}n", nutrition),
        ]
        return Row(name, samples, image=picture(number))

    return [dish(number) for number in range(2 * NUM_TEST + 3)]


def choices(picture: Callable[[int], bytes]) -> list[Row]:
    shown = [
        Row(f"q{n}", [tasks.choice_sample(f"{n}", "word4", ["word1", "word2"], n % 2)], picture(n + 50))
        for n in range(3)
    ]
    return [*shown, Row("q9", [tasks.choice_sample("9", "word5", ["word1", "word2"], 0, image=False)])]


def captions(picture: Callable[[int], bytes]) -> list[Row]:
    return [
        Row(f"p{n}", [tasks.caption_sample(f"{n}#{k}", f"word{k}") for k in range(5)], picture(n + 80))
        for n in range(3)
    ]


@pytest.fixture
def inside(workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "home"))
    return workspace / evaluate.EVALUATION


class Killed(BaseException):
    pass


def test_stage_goes_on_after_a_kill_and_writes_what_the_report_reads(
    inside: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: Counter[str] = Counter()
    decode = answering.decode_greedily

    def counted(*arguments: Any) -> list[list[int]]:
        if given["batches"] == 9:
            given["batches"] += 1
            raise Killed
        answers = decode(*arguments)
        given["batches"] += 1
        given["answers"] += len(answers)
        return answers

    monkeypatch.setattr(answering, "decode_greedily", counted)
    with pytest.raises(Killed):
        evaluate.run(params)
    assert not (inside / "metrics.json").exists()
    evaluate.run(params)

    asked, blind = 3 * 2 * NUM_TEST + 4 + 3, 3 * 2 * NUM_TEST + 3 + 3
    # Nothing was asked twice: not after the kill, and not in the blind row, whose questions read alike for all images.
    assert given["answers"] == 3 * asked
    table = pq.read_table(inside / "answers.parquet").to_pylist()
    rows = Counter(line["row"] for line in table)
    assert rows == {"base": asked, "pretrain": asked, "finetune": asked, "blind": blind, "mean": 2 * NUM_TEST}

    metrics = json.loads((inside / "metrics.json").read_text())
    assert list(metrics) == ["base", "pretrain", "finetune", "blind", "mean", "differences"]
    for row in ("base", "pretrain", "finetune", "blind"):
        assert list(metrics[row]) == ["ingredients", "recipe", "nutrition", "choice", "caption"]
        mine = [line["score"] for line in table if line["row"] == row and line["task"] == "ingredients"]
        assert metrics[row]["ingredients"]["iou"] == pytest.approx(sum(mine) / len(mine))
    assert metrics["mean"]["nutrition"]["mass"] == pytest.approx(100 * 55 / 135)  # 190 predicted, 100 to 170 true

    measured = json.loads((inside / "measured.json").read_text())
    assert measured["model"] == model_digest(evaluate.FINETUNE)
    assert measured["seal"] == seal(metrics, measured)
    assert list(measured["conditions"]["questions"]) == ["unifood", "scienceqa", "flickr30k"]
    assert measured["conditions"]["settings"]["evaluate.max_new_tokens"] == "6"
    # The blind row was not asked the question without an image: what is compared with it leaves that out too.
    assert measured["sighted"]["ingredients"] == metrics["finetune"]["ingredients"]
    assert measured["sighted"]["choice"]["accuracy"] == metrics["finetune"]["choice"]["accuracy_image"]

    compared = metrics["differences"]["nutrition.pmae finetune - mean"]
    assert compared["value"] == pytest.approx(
        metrics["finetune"]["nutrition"]["pmae"] - metrics["mean"]["nutrition"]["pmae"]
    )
    assert (compared["low"], compared["questions"]) == (None, 2 * NUM_TEST)
    for name in ("ingredients.iou", "recipe.rouge_l", "nutrition.pmae", "choice.accuracy", "caption.rouge_l"):
        assert f"{name} finetune - blind" in metrics["differences"]

    samples = json.loads((inside / "insight" / "samples.json").read_text())
    assert [len(sample["items"]) for sample in samples] == [3, 1, 1]
    for sample in samples:
        with Image.open(inside / "insight" / sample["image"]) as image:
            assert image.size == (26, 20)
        with Image.open(inside / "insight" / sample["heat_map"]) as heat_map:
            assert heat_map.width >= 512
        for item in sample["items"]:
            assert {"base", "pretrain", "finetune", "blind"} <= set(item["answers"])
    layers = (inside / "insight" / "entropy.csv").read_text().splitlines()
    assert layers[0] == "layer,task,before,after,zero_share,silent_share"
    assert len(layers) == 1 + 2 * 2 * 5  # q and v of two blocks, five tasks
    shares = list(csv.DictReader((inside / "insight" / "skill_space.csv").read_text().splitlines()))
    assert len(shares) == 2 * 2 * 5 * params.adapter.rank
    assert sum(float(row["before"]) for row in shares) == pytest.approx(2 * 2 * 5, rel=1e-3)
    assert (inside / "insight" / "experts.csv").read_text() == "layer,task,expert,rank,load,off_share\n"
    assert (inside / "plots" / "choice.csv").read_text().splitlines()[0] == "actual,predicted"


def test_benchmarks_without_a_test_question_are_reported_in_one_line(inside: Path, params: Params) -> None:
    section = params.evaluate.model_copy(update={"benchmarks": ["flickr30k"]})
    recipe = params.finetune.model_copy(update={"sources": ["unifood"]})
    with pytest.raises(UserError, match=r"evaluate\.benchmarks \(flickr30k\), only ingredients, nutrition, recipe"):
        evaluate.run(params.model_copy(update={"evaluate": section, "finetune": recipe}))


@pytest.mark.slow
def test_two_workers_answer_as_this_process_does(
    inside: Path, params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = list(split_rows(evaluate.PREPARED, evaluate.ASSIGNMENTS, params.finetune.sources, "test"))
    asked = questions(params.evaluate.benchmarks, rows)
    answers = []
    for workers in (1, 2):
        monkeypatch.setenv("LEA_HOME", str(tmp_path / f"home{workers}"))
        section = params.evaluate.model_copy(update={"workers": workers})
        systems = Systems(evaluate.BASE, {"finetune": evaluate.FINETUNE}, params.finetune, section)
        answers.append(systems.answers("finetune", asked))
        assert systems.left("finetune", asked) == 0
    assert answers[0] == answers[1]
    assert not ray.is_initialized()


@pytest.mark.slow
def test_killed_process_goes_on_without_asking_again(inside: Path, params: Params, tmp_path: Path) -> None:
    """SIGKILL while answers are written; the second run asks what is left, and no more."""
    (tmp_path / "params.json").write_text(params.model_dump_json())
    program = (
        "import sys; from pathlib import Path; from components.params import Params; from pipelines import evaluate\n"
        "evaluate.run(Params.model_validate_json(Path(sys.argv[1]).read_text()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "params.json")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    runs = tmp_path / "home" / "runs"
    while first.poll() is None and not list(runs.glob("evaluate-*/answers.jsonl")):
        time.sleep(0.005)
    first.kill()
    first.communicate()
    kept = {path: path.read_bytes() for path in runs.glob("evaluate-*/answers.jsonl")}
    assert kept
    assert not (inside / "metrics.json").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    for path, content in kept.items():
        whole = content[: content.rfind(b"\n") + 1]
        assert path.read_bytes().startswith(whole)
    for path in runs.glob("evaluate-*/answers.jsonl"):
        keys = [json.loads(line)["question"] for line in path.read_text().splitlines()]
        assert len(keys) == len(set(keys)), "each was asked once"


def test_damaged_image_fails_its_own_questions_and_no_others(
    inside: Path,
    params: Params,
    picture: Callable[[int], bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = list(split_rows(evaluate.PREPARED, evaluate.ASSIGNMENTS, params.finetune.sources, "test"))
    damaged = [replace(row, image=b"torn") if row.image == picture(0) else row for row in rows]
    monkeypatch.setattr("components.batching.sampler.split_rows", lambda *_: iter(damaged))
    monkeypatch.setattr(evaluate, "write_insight", lambda *_: None)
    evaluate.run(params)
    assert "evaluate finetune: 3 of 31 questions failed and count as wrong (ImageError" in capsys.readouterr().out
    metrics = json.loads((inside / "metrics.json").read_text())
    assert metrics["finetune"]["ingredients"]["failed"] == 1
    table = pq.read_table(inside / "answers.parquet").to_pylist()
    failed = [line for line in table if line["row"] == "finetune" and line["failed"]]
    assert sorted(line["id"] for line in failed) == ["0i", "0n", "0r"]
    assert {line["answer"] for line in failed} == {""}


@pytest.fixture
def judged(params: Params, picture: Callable[[int], bytes], tmp_path: Path) -> Params:
    """MM-Vet of two questions beside Flickr30k's."""
    gold = {
        f"v1_{n}": {"imagename": f"v1_{n}.png", "question": f"word{n}", "answer": "word9", "capability": ["ocr"]}
        for n in range(2)
    }
    (tmp_path / "images").mkdir()
    (tmp_path / "mm-vet.json").write_text(json.dumps(gold))
    for n in range(2):
        (tmp_path / "images" / f"v1_{n}.png").write_bytes(picture(n))
    files = {"mm_vet": BenchmarkFiles(annotations=str(tmp_path / "mm-vet.json"), images=str(tmp_path / "images"))}
    section = params.evaluate.model_copy(update={"benchmarks": ["flickr30k", "mm_vet"], "files": files})
    return params.model_copy(update={"evaluate": section})


def test_judged_benchmarks_are_answered_and_a_judge_grades_them(
    inside: Path, judged: Params, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "write_insight", lambda *_: None)
    evaluate.run(judged)
    assert "mm_vet is answered, not graded; set evaluate.judge, or: lea score mm_vet" in capsys.readouterr().out
    answers = [json.loads(line) for line in (inside / "judged" / "mm_vet.jsonl").read_text().splitlines()]
    assert [(line["question_id"], line["prompt"]) for line in answers] == [("v1_0", "word0"), ("v1_1", "word1")]
    assert not server.bodies

    server.script = lambda number, body: "1.0" if number == 1 else (400, {})
    asking = judged.model_copy(update={"evaluate": judged.evaluate.model_copy(update={"judge": "gpt-x"})})
    with pytest.raises(UserError, match="refuses the judge gpt-x"):
        evaluate.run(asking)
    assert not (inside / "metrics.json").exists()
    server.script = lambda number, body: "no idea"
    with pytest.raises(UserError, match="gave no grade for 1 of 2 answers of mm_vet"):
        evaluate.run(asking)
    server.script = lambda number, body: "0.5"
    evaluate.run(asking)
    assert len(server.bodies) == 4, "a grade that is known is not asked for again, nonsense is"
    assert f"Prediction: {answers[1]['text']}" in server.bodies[3]["messages"][0]["content"]
    metrics = json.loads((inside / "metrics.json").read_text())
    assert metrics["finetune"]["mm_vet"] == {"score": 75, "std": 0, "ungraded": 0, "failed": 0}
    assert metrics["finetune"]["mm_vet_ocr"]["score"] == pytest.approx(75)
    assert "mm_vet" not in metrics["base"]
    assert "caption" in metrics["finetune"]
    assert len((inside / "judged" / "mm_vet.grades.jsonl").read_text().splitlines()) == 2


def test_the_command_that_is_printed_grades_where_the_judge_is_looked_for(
    inside: Path, judged: Params, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "write_insight", lambda *_: None)
    evaluate.run(judged)
    line = next(line for line in capsys.readouterr().out.splitlines() if "not graded" in line)
    words = line.partition("lea ")[2].replace("MODEL", "gpt-x").split()
    assert "evaluation" not in Path(words[words.index("--answers") + 1]).parts, "DVC would empty the folder"
    arguments = cli.parser().parse_args(words)
    assert stage.guarded(lambda: cli.VERBS["score"].run(arguments)) == 0
    paid = len(server.bodies)
    evaluate.run(judged.model_copy(update={"evaluate": judged.evaluate.model_copy(update={"judge": "gpt-x"})}))
    assert paid == len(server.bodies) == 2


def test_a_question_that_failed_is_graded_as_silence(
    judged: Params, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = judged_questions(judged.evaluate)["mm_vet"]
    silence = "Prediction: \nGrade:"
    server.script = lambda number, body: "0" if body["messages"][0]["content"].endswith(silence) else "1"
    section = judged.evaluate.model_copy(update={"judge": "gpt-x"})
    (tmp_path / "state").mkdir()
    free: list[bool] = []

    def to_grade(*arguments: Any) -> Any:
        with lock_if_free("state") as held:  # by which `lea clean` would take the grades away
            free.append(held)
        return own(*arguments)

    own = JUDGED["mm_vet"].to_grade
    monkeypatch.setattr(JUDGED["mm_vet"], "to_grade", to_grade)
    metrics = graded("mm_vet", asked, ["word9", Failed("torn")], section, tmp_path / "state", tmp_path)
    assert free == [False]
    assert metrics["mm_vet"] == {"score": 50, "std": 0, "ungraded": 0, "failed": 1}


def test_a_judge_without_an_endpoint_is_reported_before_anything_is_asked(
    inside: Path, judged: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    section = judged.evaluate.model_copy(update={"judge": "gpt-x"})
    with pytest.raises(UserError, match=r"evaluate\.judge needs an endpoint"):
        evaluate.run(judged.model_copy(update={"evaluate": section}))
    assert not list((tmp_path / "home").rglob("*.jsonl"))
