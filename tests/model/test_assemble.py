from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.adapters import adapter_parameters
from components.errors import UserError
from components.evaluation.inference.assistant import load_assistant
from components.model.assemble import build, check_fit, trainable_groups
from components.model.base import Base, load_base
from components.model.stored import model_digest, path_free
from components.model.weights import save_parts
from components.params import Params
from tests.models import write_tiny_base


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture
def base(base_folder: Path) -> Base:
    return load_base(base_folder)


@pytest.fixture
def vce(params: Params) -> Any:
    return params.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2})


def inputs(model: Any) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([[1, 9, 3, 3, 3, 3, 20, 21]])
    return {"input_ids": ids, "pixel_values": torch.randn(1, 3, 16, 16, generator=generator)}


def test_trainable_are_projector_vce_and_adapter_alone(base: Base, vce: Any, params: Params) -> None:
    model, _ = build(base, vce, params.adapter)
    groups = trainable_groups(model)
    assert set(groups) == {"projector", "vce", "adapter"}
    for name, _ in groups["adapter"]:
        assert ".language_model." in name
        assert any(f".{target}." in name for target in params.adapter.targets)
    assert not any(p.requires_grad for p in model.model.vision_tower.parameters())


def test_fresh_adapter_and_silent_cue_change_nothing(base: Base, base_folder: Path, vce: Any, params: Params) -> None:
    plain = load_base(base_folder).model.eval()
    model, _ = build(base, vce.model_copy(update={"scale": 0.0}), params.adapter)
    with torch.no_grad():
        assert torch.equal(model.eval()(**inputs(model)).logits, plain(**inputs(plain)).logits)


@pytest.mark.parametrize("kind", ["lora", "dual_lora", "lora_moe", "rode"])
def test_stored_parts_give_the_same_model_to_the_bit(
    base: Base, base_folder: Path, vce: Any, params: Params, kind: str, tmp_path: Path
) -> None:
    adapter = params.adapter.model_copy(update={"kind": kind})
    torch.manual_seed(2)
    model, wrapped = build(base, vce, adapter)
    for _, parameter in (pair for group in trainable_groups(model).values() for pair in group):
        torch.nn.init.normal_(parameter, std=0.2)
    weights = {name: p.detach() for group in trainable_groups(model).values() for name, p in group}
    settings = {"base": base.reference, "vce": vce.model_dump(), "adapter": adapter.model_dump()}
    save_parts(tmp_path, settings, weights, wrapped)
    again = load_assistant(base_folder, tmp_path).model
    with torch.no_grad():
        assert torch.equal(again(**inputs(again)).logits, model.eval()(**inputs(model)).logits)
    configs: list[Any] = [one.config.vision_config for one in (again, model)]
    blocks = [config.num_hidden_layers for config in configs]
    assert blocks[0] == blocks[1] + 1 + max(vce.levels)  # none above the highest level that is read


def store(folder: Path, base: Base, vce: Any, adapter: Any) -> None:
    model, wrapped = build(base, vce, adapter)
    weights = {name: p.detach() for group in trainable_groups(model).values() for name, p in group}
    settings = {"base": base.reference, "vce": vce.model_dump(), "adapter": adapter.model_dump()}
    save_parts(folder, settings, weights, wrapped)


STORED = ["connector.safetensors", "adapter/adapter_model.safetensors"]


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("fault", ["missing", "shape", "surplus"])
def test_missing_tensor_is_refused(
    base: Base, base_folder: Path, vce: Any, params: Params, name: str, fault: str, tmp_path: Path
) -> None:
    store(tmp_path, base, vce, params.adapter)
    tensors = load_file(tmp_path / name)
    odd = sorted(tensors)[0]
    tensor = tensors.pop(odd)
    more = {"missing": {}, "shape": {odd: tensor[:-1].clone()}, "surplus": {odd: tensor, f"{odd}.more": tensor.clone()}}
    save_file(tensors | more[fault], tmp_path / name)
    with pytest.raises(UserError, match=f"{name} does not fit the settings: {odd}") as mistake:
        load_assistant(base_folder, tmp_path)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize("name", [*STORED, "adapter/adapter_config.json"])
def test_damaged_or_absent_file_gives_one_line(
    base: Base, base_folder: Path, vce: Any, params: Params, name: str, tmp_path: Path
) -> None:
    store(tmp_path, base, vce, params.adapter)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match=f"{name} is damaged") as mistake:
        load_assistant(base_folder, tmp_path)
    assert "\n" not in str(mistake.value)
    file.unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        load_assistant(base_folder, tmp_path)


def test_parts_of_another_base_are_refused(base: Base, base_folder: Path, vce: Any, tmp_path: Path) -> None:
    model, wrapped = build(base, vce, None)
    weights = {name: p.detach() for group in trainable_groups(model).values() for name, p in group}
    other = {**base.reference, "digest": "0" * 64}
    save_parts(tmp_path, {"base": other, "vce": vce.model_dump(), "adapter": None}, weights, wrapped)
    with pytest.raises(UserError, match="was trained on base 000000000000"):
        load_assistant(base_folder, tmp_path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"targets": ["q_porj"]},
            "adapter.targets: 'q_porj' matches no layer of the language model; near names: q_proj",
        ),
        ({"targets": r"layers\.9\..*"}, r"adapter.targets: 'layers.*' matches no layer .*near names: down_proj"),
        ({"targets": r"layers\.0\..*"}, "matches layers.0.self_attn, a LlamaAttention, not a linear layer"),
        ({"targets": ["lm_head"]}, "'lm_head' matches no layer of the language model"),
    ],
)
def test_adapter_that_does_not_fit_gives_one_line(
    base: Base, params: Params, change: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError, match=line) as mistake:
        build(base, None, params.adapter.model_copy(update=change))
    assert "\n" not in str(mistake.value)


def test_targets_can_be_a_regex_over_the_path_in_the_language_model(base: Base, params: Params) -> None:
    adapter = params.adapter.model_copy(update={"targets": r"layers\.1\..*\.(q|down)_proj"})
    model, _ = build(base, None, adapter)
    adapted = {name.partition("language_model.")[2].rpartition("_proj.")[0] for name in adapter_parameters(model)}
    assert adapted == {"layers.1.self_attn.q", "layers.1.mlp.down"}


def test_identity_start_of_vce_leaves_the_model_as_it_is(base: Base, base_folder: Path, vce: Any) -> None:
    plain = load_base(base_folder).model.eval()
    for start, same in (("identity", True), ("paper", False)):
        model, _ = build(load_base(base_folder), vce.model_copy(update={"start": start}), None)
        with torch.no_grad():
            assert torch.equal(model.eval()(**inputs(model)).logits, plain(**inputs(plain)).logits) is same


def test_what_does_not_fit_is_found_without_the_weights(base_folder: Path, vce: Any, params: Params) -> None:
    check_fit(base_folder, vce, params.adapter)
    with pytest.raises(UserError, match="hidden states 0 to 4"):
        check_fit(base_folder, vce.model_copy(update={"levels": [-2, -6]}), None)
    with pytest.raises(UserError, match="'k_porj' matches no layer"):
        check_fit(base_folder, vce, params.adapter.model_copy(update={"targets": ["k_porj"]}))


def test_level_that_the_encoder_lacks_is_refused(base: Base, vce: Any) -> None:
    with pytest.raises(UserError, match=r"vce.levels holds -20, but the vision encoder has hidden states 0 to 4"):
        build(base, vce.model_copy(update={"levels": [-2, -20]}), None)


def test_stored_model_names_its_base_by_kind_and_digest_or_hub_id_and_no_place(
    base: Base, vce: Any, params: Params, tmp_path: Path
) -> None:
    """Equal weights from two workspaces are equal files."""
    (tmp_path / "parts").mkdir()
    digests = []
    for place, revision, name in (
        ("/home/someone/models/llava", None, f"{base.reference['kind']}@{base.reference['digest'][:16]}"),
        ("tests", None, f"{base.reference['kind']}@{base.reference['digest'][:16]}"),
        ("llava-hf/llava-1.5-7b-hf", "abc123", "llava-hf/llava-1.5-7b-hf"),
    ):
        torch.manual_seed(1)
        model, wrapped = build(copy.deepcopy(base), vce, params.adapter)
        weights = {name: p.detach() for group in trainable_groups(model).values() for name, p in group}
        settings = {"base": path_free({**base.reference, "id": place, "revision": revision})}
        save_parts(tmp_path / "parts", settings, weights, wrapped)
        config = json.loads((tmp_path / "parts/adapter/adapter_config.json").read_text())
        assert (config["base_model_name_or_path"], config["revision"]) == (name, revision)
        card = (tmp_path / "parts/adapter/README.md").read_text()
        assert f"base_model: {name}\n" in card
        assert f"base_model:adapter:{name}\n" in card
        assert "/home/someone" not in card
        assert str(base.model.name_or_path) not in card
        assert "import local_enhanced_adapters" in card
        digests.append(model_digest(tmp_path / "parts"))
    assert digests[0] == digests[1] != digests[2]
