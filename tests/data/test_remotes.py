"""Raw data pushed and pulled with DVC, prepared data read from S3, and only what changed prepared again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.data.shards import PreparedRows
from tests.data.raw import RAW, data_settings, llava_record, prepared, raw_llava_json, tokenizer_file

ROOT = Path(__file__).parents[2]


def dvc(folder: Path, *command: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LEA_HOME": str(folder / ".lea")},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout


def tracked(folder: Path) -> Path:
    """A DVC repository with one raw source, as archives."""
    folder.mkdir()
    dvc(folder, "init", "--no-scm", "-q")
    raw_llava_json(folder / "data/raw/mine", 50)
    dvc(folder, "add", "-q", "data/raw/mine")
    return folder


def clone(folder: Path, other: Path) -> Path:
    """What git would bring: settings and .dvc files, no data."""
    other.mkdir()
    (other / ".dvc").mkdir()
    shutil.copy(folder / ".dvc/config", other / ".dvc/config")
    (other / "data/raw").mkdir(parents=True)
    shutil.copy(folder / "data/raw/mine.dvc", other / "data/raw/mine.dvc")
    return other


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "data/raw/mine").iterdir())}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that speaks S3, with the bucket `lea`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    boto3.client("s3").create_bucket(Bucket="lea")
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.slow
def test_raw_data_go_to_a_folder_and_come_back(tmp_path: Path) -> None:
    here = tracked(tmp_path / "here")
    dvc(here, "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    dvc(here, "push", "-q")
    there = clone(here, tmp_path / "there")
    dvc(there, "pull", "-q")
    assert bytes_of(there) == bytes_of(here)


@pytest.mark.service
def test_raw_data_go_to_s3_and_come_back(tmp_path: Path, s3: str) -> None:
    here = tracked(tmp_path / "here")
    dvc(here, "remote", "add", "-q", "-d", "store", "s3://lea/dvc")
    dvc(here, "remote", "modify", "-q", "store", "endpointurl", s3)
    dvc(here, "push", "-q")
    there = clone(here, tmp_path / "there")
    dvc(there, "pull", "-q")
    assert bytes_of(there) == bytes_of(here)


@pytest.mark.service
def test_prepared_rows_are_read_from_s3(tmp_path: Path, s3: str) -> None:
    import boto3

    prepared("mine", raw_llava_json(tmp_path / "raw", 200), data_settings(shard_bytes=6000), tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        boto3.client("s3").upload_file(str(path), "lea", f"prepared/mine/{path.name}")
    here, there = PreparedRows(tmp_path / "out"), PreparedRows("s3://lea/prepared/mine")
    assert [there[number] for number in (199, 0, 77)] == [here[number] for number in (199, 0, 77)]
    assert there.index == here.index


@pytest.mark.slow
def test_only_the_source_that_changed_is_prepared_again(tmp_path: Path) -> None:
    for folder in ("components", "pipelines"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    sources = {kind: RAW[kind](tmp_path / "data/raw" / kind, 20) for kind in ("llava_json", "unifood")}
    tree["data"]["sources"] = {
        kind: {**spec.model_dump(), "path": f"data/raw/{kind}"} for kind, spec in sources.items()
    }
    tree["plates"]["sets"] = {}
    tree["pretrain"]["sources"], tree["finetune"]["sources"] = ["llava_json"], ["unifood"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    (tmp_path / "models/base").mkdir(parents=True)
    shutil.copy(tokenizer_file(), tmp_path / "models/base/tokenizer.json")
    dvc(tmp_path, "init", "--no-scm", "-q")

    def repro() -> set[str]:
        names = [f"prepare@{kind}" for kind in sources]
        lines = dvc(tmp_path, "repro", "--single-item", *names).splitlines()
        return {name for name in names if any(line.startswith(f"Running stage '{name}'") for line in lines)}

    assert repro() == {"prepare@llava_json", "prepare@unifood"}
    assert repro() == set()
    records = [llava_record(number) for number in range(19)]
    (tmp_path / "data/raw/llava_json/captions.json").write_text(json.dumps(records))
    assert repro() == {"prepare@llava_json"}
