"""A small workspace with a sound file of every kind, and the code of the product that reads each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import hostile_kills
from benchmarks.hostile_files import Case
from components.data.schema import Row, Sample, Turn
from components.data.shards import PreparedRows, ShardWriter, index_digests
from components.digests import folder_digest
from components.files import write_json, write_text
from components.params import Params, load_params, profiles

SOURCE = Path("data/prepared/mine")
POPE = "labels/coco_pope_popular.json"
CHAT = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "Soup."}]
TIMES = "home/tables/seconds-tiny.json"
TALK = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "Soup."}]
LEARNT = {"step": 1, "of": 2, "epoch": 1, "loss": 0.5, "skipped": 0}
TOOK = {"step": 1, "time": 0.0, "seconds": 1.0}


def laid_out(folder: Path) -> None:
    """Files as the stages and their users leave them; this process works there."""
    folder.mkdir(parents=True)
    hostile_kills.laid_out(folder)
    base()
    os.environ["HOME"] = str(folder / "user")
    (folder / "params.yaml").write_bytes((hostile_kills.ROOT / "params.yaml").read_bytes())
    prepared()
    for name, line in {"metrics": LEARNT, "timings": TOOK, "validation": {"step": 1, "validation_loss": 0.5}}.items():
        write_text(Path(f"run/{name}.jsonl"), json.dumps(line) + "\n" + json.dumps({**line, "step": 2}) + "\n")
    write_text(Path("run/answers.jsonl"), json.dumps({"question": "0" * 64, "answer": "Soup."}) + "\n")
    grade = {"digest": "0" * 64, "question_id": "1", "score": 0.5, "tuple": None, "model": "judge"}
    write_text(Path("grades.jsonl"), json.dumps(grade) + "\n")
    write_json(Path("home/base-files.json"), {"/a": [1, 2, "0" * 64]})
    write_json(Path(TIMES), {"pretrain": 60.0})
    what = {"digest": "x", "name": "x", "params": {"seed": 17}, "data": {"mine": "0" * 64}, "tags": {}, "costs": {}}
    write_json(Path("run/tracked-a.json"), {**what, "parent": None, "status": "FINISHED", "sent": ["a store"]})
    records = [{"id": "1", "conversations": TALK}, {"id": "2", "messages": CHAT}]
    write_json(Path("mine.json"), records)
    lines = [{"question_id": n, "image": f"{n}.jpg", "text": "Is there a dog?", "label": "yes"} for n in range(3)]
    write_text(Path(POPE), "".join(json.dumps(line) + "\n" for line in lines))
    asked = [
        {"question_id": n, "image": f"{n}.jpg", "text": "Is there a dog?", "category": "popular"} for n in range(3)
    ]
    write_text(Path("pope.jsonl"), "".join(json.dumps(line) + "\n" for line in asked))
    write_text(Path("answers.jsonl"), "".join(json.dumps({"question_id": n, "text": "yes"}) + "\n" for n in range(3)))
    write_text(Path(".dvc/config"), "[cache]\n    dir = ../cache\n")
    checkpoint()


def base() -> None:
    """A tokenizer that loads, in the base of `hostile_kills`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    folder = Path("models/base")
    reference = json.loads((folder / "base.json").read_text(encoding="utf-8"))
    (folder / "base.json").unlink()
    Tokenizer(WordLevel({"[UNK]": 0}, "[UNK]")).save(str(folder / "tokenizer.json"))
    write_json(folder / "base.json", {**reference, "digest": folder_digest(folder)})
    hostile_kills.train(Path.cwd(), "0")


def prepared() -> None:
    """One source of four rows, and its splits."""
    SOURCE.mkdir(parents=True)
    writer = ShardWriter(SOURCE / "00000.parquet", SOURCE / "index.parquet")
    turns = [Turn("human", "What is it?"), Turn("assistant", "Soup.")]
    for number in range(4):
        writer.add(Row(f"g{number}", [Sample(str(number), "chat", turns, None)], None, None, None, "mine"), [8])
    shard = writer.close()
    counts = {"records": {"read": 4, "kept": 4, "rejected": 0, "reasons": {}}, "rows": 4, "tasks": {"chat": 4}}
    write_json(SOURCE / "manifest.json", {**counts, "shards": [shard], **index_digests(SOURCE / "index.parquet")})
    Path("data/splits").mkdir()
    places = {"source": ["mine"] * 4, "row": list(range(4)), "split": ["train", "train", "validation", "test"]}
    pq.write_table(pa.table(places), "data/splits/assignments.parquet")
    write_json(Path("data/splits/summary.json"), {"unifood": {"test": {"rows": 1, "ingredients": 1, "chat": 1}}})


def checkpoint() -> None:
    import torch

    from components.training.checkpoint import TrainState, save_checkpoint

    Path("run/checkpoints").mkdir(parents=True)
    tensors = {"a": torch.ones(2)}
    save_checkpoint(Path("run/checkpoints"), TrainState(2, 2, tensors, tensors, tensors))


def cases() -> list[Case]:
    """Every kind of file with what reads it; `laid_out` comes first."""
    return [*_settings(), *_data(), *_run_state(), *_stages(), *_of_users()]


def _settings() -> list[Case]:
    from pipelines.names import check_names

    path = Path("params.yaml")
    return [Case(path, lambda: check_names(load_params())), Case(path, lambda: profiles.apply("photos"))]


def _data() -> list[Case]:
    from components.batching.sampler import Samples
    from pipelines.names import check_tasks

    assignments, summary = Path("data/splits/assignments.parquet"), Path("data/splits/summary.json")

    def rows() -> object:
        return list(PreparedRows(SOURCE)), Samples("data/prepared", assignments, ["mine"], [], "train")[0]

    files = [SOURCE / name for name in ("manifest.json", "index.parquet", "00000.parquet")]
    return [*(Case(file, rows) for file in (*files, assignments)), Case(summary, lambda: check_tasks(load_params()))]


def _run_state() -> list[Case]:
    from components.evaluation.inference.journal import Journal as Answers
    from components.evaluation.judge import grading
    from components.model.local_files import _seen
    from components.tables.trials import _known_seconds
    from components.tracking.runs import _tracked
    from components.training.checkpoint import load_checkpoint, newest_intact
    from components.training.journal import VALIDATION_FILE, read_journal
    from components.training.stage import write_log

    def resumed() -> object:
        step = newest_intact(Path("run/checkpoints"))
        return load_checkpoint(Path("run/checkpoints"), step) if step else None

    run, place = Path("run"), Path("run/checkpoints/step-00000002")
    return [
        *(Case(place / name, resumed) for name in ("state.json", "weights.safetensors")),
        *(Case(run / name, lambda: write_log(run, Path("log.csv"))) for name in ("metrics.jsonl", "timings.jsonl")),
        Case(run / VALIDATION_FILE, lambda: read_journal(run / VALIDATION_FILE)),
        Case(run / "answers.jsonl", lambda: Answers(run / "answers.jsonl", 8)),
        Case(Path("grades.jsonl"), lambda: grading._lines_of(Path("grades.jsonl"))),
        Case(Path("home/base-files.json"), _seen),
        Case(Path("run/tracked-a.json"), lambda: _tracked(Path("run/tracked-a.json"))),
        Case(Path(TIMES), lambda: _known_seconds(Path(TIMES))),
    ]


def _stages() -> list[Case]:
    from components.tracking import registry
    from pipelines import register

    params: Params = load_params()
    parts, base = Path("models/finetune"), Path("models/base")

    of_register = [parts / "model.json", Path("evaluation/metrics.json"), Path("evaluation/measured.json")]
    return [
        *(Case(file, lambda: register.present_record(params)) for file in of_register),
        *(Case(file, lambda: registry._settings(parts, base)) for file in (parts / "model.json", base / "base.json")),
    ]


def _of_users() -> list[Case]:
    from components.images import dvc_cache

    def lea(*words: str) -> Any:
        from pipelines import cli

        given = cli.parser().parse_args(words)
        return cli.VERBS[given.verb].run(given)

    def link() -> object:
        dvc_cache._caches.cache_clear()
        return dvc_cache.is_cached("/nowhere")

    pope = ("score", "pope", "--annotations", "labels", "--questions", "pope.jsonl", "--answers")
    return [
        Case(Path("mine.json"), lambda: lea("check", "mine.json", "--images", ".")),
        *(Case(Path(name), lambda: lea(*pope, "answers.jsonl")) for name in ("answers.jsonl", POPE, "pope.jsonl")),
        Case(Path(".dvc/config"), link),
    ]


def commands() -> list[Case]:
    """What reads variables first, and ends at once."""
    from components.cluster import check_cluster
    from components.evaluation.judge.endpoint import Judge
    from components.locks import lock
    from components.tracking import bases, store
    from components.training.stage import _prepared_place
    from pipelines import prepare, stage

    reference = json.loads(Path("models/base/base.json").read_text(encoding="utf-8"))
    digest = json.loads((SOURCE / "manifest.json").read_text(encoding="utf-8"))["digest"]

    def locked() -> None:
        with lock("mine"):
            pass

    return [
        Case(Path(), store.connect),
        Case(Path(), locked),
        Case(Path(), lambda: Judge.from_environment("judge")),
        Case(Path(), lambda: check_cluster(os.environ.get("RAY_ADDRESS") or "local")),
        Case(Path(), lambda: bases.find(reference, [])),
        Case(Path(), lambda: _prepared_place({"mine": digest})),
        Case(Path(), lambda: prepare.run(load_params(), *stage.name_from_dvc())),
    ]


def import_all() -> None:
    """Import what commands import when they are run, so that a try is timed without it."""
    import components.search.search
    import components.serving.export  # noqa: F401
    from components.tracking import store

    store.connect()
