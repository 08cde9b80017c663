"""The released form against the authors' own code, and their files as parts of ours."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn

from components import params
from components.adapters import DualLoraConfig
from components.errors import UserError
from components.evaluation.inference.assistant import load_assistant
from components.model.authors import CUE_NAMES, import_parts, our_name
from components.model.released_cue import ReleasedVisualCueEnhancement
from pipelines.cli import VERBS, parser
from tests.models import write_tiny_base

CODE = os.environ.get("LEA_AUTHORS_CODE", "")
needs_code = [
    pytest.mark.peer,
    pytest.mark.skipif(not CODE, reason="LEA_AUTHORS_CODE names no checkout of github.com/pengkun-jiao/FHTC"),
]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("authors")
    script = Path(__file__).with_name("authors_code.py")
    ran = subprocess.run([sys.executable, str(script), CODE, str(out)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return out


def close(ours: Tensor | None, found: Tensor) -> None:
    assert ours is not None
    torch.testing.assert_close(ours, found, rtol=1e-6, atol=1e-6 * max(1.0, found.abs().max().item()))


@pytest.mark.parametrize("name", ["dual_lora", "dual_lora_dropout"])
@pytest.mark.peer
@needs_code[1]
def test_their_dual_lora_layer_is_ours_in_released_form(theirs: Path, name: str) -> None:
    """With dropout too: the same mask falls on the skill path alone."""
    found = load_file(theirs / f"{name}.safetensors")
    torch.manual_seed(0)
    base = nn.ModuleDict({"q_proj": nn.Linear(24, 20, bias=False)})
    dropout = 0.3 if name.endswith("dropout") else 0.0
    config = DualLoraConfig(r=8, lora_alpha=16, lora_dropout=dropout, target_modules=["q_proj"], form="released")
    layer: Any = get_peft_model(base, config).base_model.model["q_proj"]  # type: ignore[arg-type,index]
    spaces, up = layer.dual_lora_spaces["default"], layer.dual_lora_up["default"]
    parts = {
        spaces.weight: ("lora_A0.weight", "lora_T.weight"),
        spaces.norm_weight: ("lora_layer_norm.weight",),
        spaces.norm_bias: ("lora_layer_norm.bias",),
        up.weight: ("lora_B0.weight",),
    }
    with torch.no_grad():
        layer.base_layer.weight.copy_(found["weight.weight"])
        for parameter, names in parts.items():
            parameter.copy_(torch.cat([found[f"weight.{one}"] for one in names]))
    x = found["input.x"].requires_grad_()
    layer.train()
    torch.manual_seed(7)
    output = layer(x)
    (output * found["loss_weights"]).sum().backward()
    close(output, found["output"])
    close(x.grad, found["input_gradient.x"])
    for parameter, names in parts.items():
        close(parameter.grad, torch.cat([found[f"gradient.{one}"] for one in names]))


@pytest.mark.peer
@needs_code[1]
def test_their_vce_module_is_ours_in_released_form(theirs: Path) -> None:
    found = load_file(theirs / "vce.safetensors")
    ours = ReleasedVisualCueEnhancement(32, 4, num_heads=4, num_points=3, anchor=3)  # their query is the last level
    ours.keep_unused_norm()
    named = {f"{CUE_NAMES[name]}.{kind}": (name, kind) for name in CUE_NAMES for kind in ("weight", "bias")}
    ours.load_state_dict({name: found[f"weight.{their}.{kind}"] for name, (their, kind) in named.items()})
    levels = found["input.levels"].requires_grad_()
    output = ours(list(levels), (5, 5))
    (output * found["loss_weights"]).sum().backward()
    close(output, found["output"])
    close(levels.grad, found["input_gradient.levels"])
    compared = 0
    for name, parameter in ours.named_parameters():
        their = "gradient." + ".".join(named[name])
        if name.startswith("unused_norm"):
            assert their not in found  # computed and thrown away there, too
            continue
        close(parameter.grad, found[their])
        compared += 1
    assert compared == 12


WIDTH, HIDDEN, RANK, LEVELS = 32, 32, 4, 2


def their_file(**changes: Callable[[], Tensor] | None) -> dict[str, Tensor]:
    """Their naming, at the size of the tests' tiny base. changes: a tensor in place of one, None leaves it out."""
    samples = 2 * LEVELS * 2  # heads, levels, points
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(2):
        for target in ("q_proj", "v_proj"):
            path = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            shapes[f"{path}.lora_T.weight"] = (RANK, HIDDEN)
            shapes[f"{path}.lora_layer_norm.weight"] = shapes[f"{path}.lora_layer_norm.bias"] = (RANK,)
            shapes[f"{path}.lora_A0.weight"] = (RANK, HIDDEN)
            shapes[f"{path}.lora_B0.weight"] = (HIDDEN, RANK)
    sizes = {"sampling_offsets": 2 * samples, "attention_weights": samples, "value_proj": WIDTH, "output_proj": WIDTH}
    for name, rows in sizes.items():
        place = f"base_model.model.model.mm_projector.VCE_module.cross_attn.{name}"
        shapes[f"{place}.weight"], shapes[f"{place}.bias"] = (rows, WIDTH), (rows,)
    for norm in ("query_norm", "feat_norm", "norm"):
        for kind in ("weight", "bias"):
            shapes[f"base_model.model.model.mm_projector.VCE_module.{norm}.{kind}"] = (WIDTH,)
    for layer, columns in (("0", WIDTH), ("2", HIDDEN)):
        place = f"base_model.model.model.mm_projector.mm_projector_llava.{layer}"
        shapes[f"{place}.weight"], shapes[f"{place}.bias"] = (HIDDEN, columns), (HIDDEN,)
    generator = torch.Generator().manual_seed(2)
    found = {name: torch.randn(shape, generator=generator).half() for name, shape in shapes.items()}
    for end, change in changes.items():
        name = next(name for name in found if name.endswith(end.replace("__", ".")))
        del found[name]
        if change is not None:
            found[name] = change()
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "theirs"
    place.mkdir()
    torch.save(their_file(), place / "adapter_weight.pth")
    (place / "config.yaml").write_text(
        f"VCE: {{enable_VCE: true, n_levels: {LEVELS}, n_heads: 2, n_points: 2, mm_vision_select_layer: [-2, -3]}}\n"
    )
    return place


def test_their_file_becomes_parts_that_answer(folder: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    assert import_parts(folder, base, out) == {"connector": 18, "adapter": 20}
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["form"], config["r"], config["lora_alpha"]) == ("DUAL_LORA", "released", 4, 8)
    settings = json.loads((out / "model.json").read_text())
    assert settings["vce"]["form"] == "released"
    assert (settings["vce"]["levels"], settings["vce"]["anchor"]) == ([-2, -3], -3)
    theirs = their_file()
    adapter, connector = load_file(out / "adapter/adapter_model.safetensors"), load_file(out / "connector.safetensors")
    for name, tensor in theirs.items():
        own = our_name(name)
        assert own is not None
        where = connector if "multi_modal_projector" in own else adapter
        key = own.removeprefix("model.multi_modal_projector.") if where is connector else f"base_model.model.{own}"
        assert torch.equal(where.pop(key), tensor.float())
    assert not adapter
    assert not connector
    assistant = load_assistant(base, out)  # with a place for the norm that nothing reads
    pixels = torch.zeros(1, 3, 16, 16)
    features: Any = assistant.model.get_image_features(pixels)
    assert torch.isfinite(features.pooler_output[0]).all()


def test_a_file_of_stage_one_has_no_adapter(folder: Path, base: Path, tmp_path: Path) -> None:
    stage1 = {name.removeprefix("base_model.model."): t for name, t in their_file().items() if "lora" not in name}
    torch.save(stage1, folder / "adapter_weight.pth")
    assert import_parts(folder, base, tmp_path / "parts") == {"connector": 18, "adapter": 0}
    assert not (tmp_path / "parts" / "adapter").exists()


class Evil:
    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (Evil, "ran", True))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "adapter_weight.pth is missing; give the folder"),
        (pickle.dumps({"lora_T": Evil()}), "is no file of tensors alone, and nothing else is read"),
        (b"PK\x03\x04 broken", "is no file of tensors alone"),
        (b"", "is no file of tensors alone"),
        ([1, 2], "holds something else than named tensors"),
        ({"a": 1}, "holds something else than named tensors"),
        ({}, "holds no tensor"),
        ({"model.layers.0.q_proj.lora_A1.weight": torch.ones(2, 2)}, "lora_A1.weight, which is no part of"),
        (their_file(lora_T__weight=None), r"lora_task.weight is None, and should be \(4, 32\)"),
        (their_file(lora_B0__weight=lambda: torch.ones(3, 4)), r"lora_up.weight is \(3, 4\), and should be \(32, 4\)"),
        (their_file(lora_A0__weight=lambda: torch.ones(3, 32)), r"skill spaces of ranks \[3, 4\]"),
        (their_file(value_proj__bias=None), "vce.value.bias is None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_refused_in_one_line(
    folder: Path, base: Path, tmp_path: Path, content: Any, said: str
) -> None:
    file = folder / "adapter_weight.pth"
    file.unlink()
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        file.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=said) as caught:
        import_parts(folder, base, tmp_path / "parts")
    assert "\n" not in str(caught.value)
    assert not Evil.ran
    assert not (tmp_path / "parts").exists()


def test_the_verb_reads_into_a_folder(
    folder: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base").symlink_to(base)
    arguments = parser().parse_args(["import", "authors", str(folder)])
    VERBS["import"].run(arguments)
    assert "models/imported: 18 tensors of the connector and 20 of the adapter" in capsys.readouterr().out
    assert (tmp_path / "models" / "imported" / "model.json").exists()
    with pytest.raises(UserError, match="models is there already; give a new folder"):
        VERBS["import"].run(parser().parse_args(["import", "authors", str(folder), "--out", "models"]))
    assert (tmp_path / "models" / "base").exists()


def test_a_config_that_is_not_theirs_is_refused(folder: Path, base: Path, tmp_path: Path) -> None:
    (folder / "config.yaml").write_text("VCE: 3\n")
    with pytest.raises(UserError, match=r"config.yaml is not the authors' config.yaml"):
        import_parts(folder, base, tmp_path / "parts")


def test_published_sizes_stand_where_no_config_lies_beside_the_file() -> None:
    from components.model.authors import _vce

    vce = _vce(Path("nowhere"), their_file())
    assert isinstance(vce, params.Vce)
    assert (vce.levels, vce.anchor, vce.num_heads, vce.num_points) == ([-2, -8, -14, -20], -20, 16, 4)
