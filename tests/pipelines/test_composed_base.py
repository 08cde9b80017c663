"""A base composed from local folders: the same bytes from the same files, and made again when one of them changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from components.digests import folder_digest
from components.model.base import compose, grow_embeddings, save_base
from components.model.local_files import local_digests
from components.model.stored import read_reference
from components.params import Params
from components.workspace import local_place
from tests.models import tiny_pieces
from tests.workspace import small_params

ROOT = Path(__file__).parent.parent.parent


def write_pieces(folder: Path) -> dict[str, str]:
    """An encoder without its pooler and a language model whose tokenizer lacks the image marker, as folders."""
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model, PreTrainedTokenizerFast

    _, language, tokenizer, _ = tiny_pieces()
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "patch_size": 8,
        "image_size": 16,
    }
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(folder / "vision")
    processor = BitImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor.save_pretrained(folder / "vision")
    language.resize_token_embeddings(len(tokenizer) - 4)
    language.save_pretrained(folder / "language")
    core = tokenizer.backend_tokenizer.to_str().replace("<image>", "picture")
    (folder / "tokenizer.json").write_text(core, encoding="utf-8")
    plain = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token="</s>")
    plain.save_pretrained(folder / "language")
    return {"vision": str(folder / "vision"), "language": str(folder / "language")}


def test_new_rows_are_the_mean_of_the_old() -> None:
    _, language, tokenizer, _ = tiny_pieces()
    old = [weight.detach().clone() for weight in (language.model.embed_tokens.weight, language.lm_head.weight)]
    grow_embeddings(language, len(tokenizer) + 2)
    for before, after in zip(old, (language.model.embed_tokens.weight, language.lm_head.weight), strict=True):
        assert torch.equal(after[: len(tokenizer)], before)
        torch.testing.assert_close(after[len(tokenizer) :], before.mean(0).expand(2, -1))


def test_digests_of_local_folders_follow_their_contents(params: Params, tmp_path: Path) -> None:
    folder = tmp_path / "vision"
    folder.mkdir()
    (folder / "weights").write_text("1", encoding="utf-8")
    chosen = params.base.compose.model_copy(update={"vision": str(folder)})
    composed = params.base.model_copy(update={"kind": "compose", "compose": chosen})
    first = local_digests(composed)
    assert list(first) == ["base.compose.vision"]  # the other is an id of the hub
    os.utime(folder / "weights")
    assert local_digests(composed) == first
    date = (folder / "weights").stat().st_mtime_ns
    (folder / "weights").write_text("2", encoding="utf-8")
    os.utime(folder / "weights", ns=(date, date))  # as tar and rsync do
    other = local_digests(composed)
    assert other != first
    (folder / "weights").write_text("22", encoding="utf-8")
    assert local_digests(composed) != other
    assert local_digests(composed) != first
    assert local_digests(params.base) == {}


def test_a_queued_experiment_finds_a_relative_folder(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC runs it in a copy that lacks what git does not know; digests and files are those of the repository."""
    root, copy = tmp_path / "root", tmp_path / "copy"
    (root / "weights" / "vision").mkdir(parents=True)
    (root / "weights" / "vision" / "file").write_text("1", encoding="utf-8")
    copy.mkdir()
    chosen = params.base.compose.model_copy(update={"vision": "weights/vision"})
    composed = params.base.model_copy(update={"kind": "compose", "compose": chosen})
    monkeypatch.setenv("DVC_ROOT", str(root))
    monkeypatch.chdir(root)
    expected = local_digests(composed)
    assert list(expected) == ["base.compose.vision"]
    monkeypatch.chdir(copy)
    assert local_digests(composed) == expected
    assert local_place("weights/vision") == str(root / "weights" / "vision")
    assert local_place("facebook/dinov2-small") == "facebook/dinov2-small"


def test_a_base_is_the_same_wherever_its_pieces_lie(tmp_path: Path) -> None:
    digests = []
    for place in ("/home/ada/weights", "elsewhere"):
        vision, language, tokenizer, processor = tiny_pieces()
        for piece in (vision, language):
            piece.config._name_or_path = piece.name_or_path = place
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        save_base(folder, compose(vision, language, tokenizer, processor, 0), tokenizer, processor, "compose", place)
        digests.append(read_reference(folder)["digest"])
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_same_files_give_the_same_bytes_in_two_processes(tmp_path: Path) -> None:
    small_params(tmp_path, base__kind="compose", base__compose=write_pieces(tmp_path / "pieces"))

    def composed(threads: str) -> str:
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads}
        subprocess.run([sys.executable, "-m", "pipelines.base"], cwd=tmp_path, env=env, check=True, timeout=300)
        return folder_digest(tmp_path / "models" / "base")

    assert composed("1") == composed("2")


@pytest.mark.slow
def test_dvc_makes_the_base_again_when_a_file_changes(tmp_path: Path) -> None:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for room in ("components", "pipelines"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    small_params(tmp_path, base__kind="compose", base__compose=write_pieces(tmp_path / "pieces"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def runs_base() -> bool:
        """Whether `dvc repro base` ran the stage."""
        command = [sys.executable, "-m", "dvc", "repro", "base"]
        env = os.environ | {"PATH": path}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return "Running stage 'base':" in done.stdout

    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=tmp_path, check=True)
    assert runs_base()
    assert not runs_base()
    first = folder_digest(tmp_path / "models" / "base")
    config = tmp_path / "pieces" / "language" / "config.json"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'), encoding="utf-8")
    assert config.read_text(encoding="utf-8") != text
    assert runs_base()
    assert folder_digest(tmp_path / "models" / "base") != first
