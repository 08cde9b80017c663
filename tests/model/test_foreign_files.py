"""Folders that others made: no code of theirs runs, and what is not plain is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from peft import PeftConfig

from components.errors import UserError
from components.model import base
from components.model.weights import check_adapter

MARK = "the folder's own code ran"


def folder_with_code(folder: Path) -> Path:
    folder.mkdir()
    mapping = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel", "AutoModelForCausalLM": "own.OwnModel"}
    config = {"model_type": "own", "auto_map": mapping}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "own.py").write_text(f"raise SystemExit({MARK!r})\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("loader", ["AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer"])
def test_code_of_a_base_is_never_run_nor_asked_about(
    loader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr("builtins.input", asked)
    folder = folder_with_code(tmp_path / "base")
    with pytest.raises(UserError, match=r"base\.compose\.language .* cannot be loaded"):
        base._found(getattr(base, loader), str(folder), "base.compose.language")


def config(folder: Path, **settings: Any) -> PeftConfig:
    text = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(text), encoding="utf-8")
    return PeftConfig.from_pretrained(str(folder))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"peft_type": "PROMPT_TUNING", "r": None}, "is no method of this project"),
        ({"peft_type": "LORA", "use_dora": True}, "use_dora is no setting of plain LoRA"),
        ({"peft_type": "LORA", "layer_replication": [[0, 2]]}, "layer_replication is no setting of plain LoRA"),
        ({"peft_type": "LORA", "r": 10**9}, "rank must be 1 to 8192"),
        ({"peft_type": "DUAL_LORA", "rank_pattern": {"q_proj": 10**9}}, "rank must be 1 to 8192"),
        ({"peft_type": "LORA", "target_modules": "(a+)+$"}, "within a repeat"),
    ],
)
def test_adapters_of_other_kinds_and_sizes_are_refused(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    if settings.get("r", 0) is None:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "PROMPT_TUNING"}), encoding="utf-8")
        found = PeftConfig.from_pretrained(str(tmp_path))
    else:
        found = config(tmp_path, **settings)
    with pytest.raises(UserError, match=reason):
        check_adapter(found, tmp_path / "adapter_config.json")


@pytest.mark.parametrize("kind", ["LORA", "DUAL_LORA"])
def test_methods_of_this_project_and_plain_lora_are_taken(kind: str, tmp_path: Path) -> None:
    check_adapter(config(tmp_path, peft_type=kind), tmp_path / "adapter_config.json")
