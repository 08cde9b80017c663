"""Numbers that the papers print."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from components.costs.published import (
    adapter_bytes,
    comparisons,
    hours_of_llava,
    llava_flops,
    vce_bytes,
    vlora_flops,
)
from components.costs.skeleton import LLAVA, bare, llava_config, parameters_by_part, skeleton
from components.params import load_params, profiles

MIB = 2**20


@pytest.mark.parametrize(
    ("kind", "rank", "mib"),
    [
        ("lora", 32, 32),
        ("lora", 64, 64),
        ("lora", 128, 128),
        ("dual_lora", 32, 48),
        ("dual_lora", 64, 96),
        ("dual_lora", 128, 192),
    ],
)
def test_adapter_bytes_are_those_of_dual_lora_appendix_table_2(kind: str, rank: int, mib: int) -> None:
    assert adapter_bytes(kind, rank) == mib * MIB


def test_vce_bytes_are_those_of_dual_lora_section_3_3() -> None:
    assert round(vce_bytes() / MIB, 2) == 5.52


def test_llava_7b_has_the_parameters_of_its_checkpoint() -> None:
    # 303,507,456 of CLIP ViT-L/14-336 + 20,979,712 of the projector + 6,738,939,904 of Llama with 32,064 tokens
    assert bare(llava_config(*LLAVA["llava-hf/llava-1.5-7b-hf"])).num_parameters() == 7_063_427_072


@pytest.mark.parametrize(("visual", "gflops", "printed"), [(576, 8027.8, 8027), (256, 3754.3, 3754), (32, 826.8, 827)])
def test_flops_with_visual_tokens_are_those_of_vlora_table_1(visual: int, gflops: float, printed: int) -> None:
    ours = llava_flops(32, visual, 32, 4096) / 1e9
    assert round(ours, 1) == gflops
    assert abs(ours - printed) < 1


def test_flops_of_vlora_are_those_of_its_table_1_in_training() -> None:
    ours = vlora_flops(32, 32, 4096, 8, 64, training=True) / 1e9
    assert round(ours, 1) == 619.8
    assert abs(ours - 619) < 1


def test_inference_merges_the_weights_first() -> None:
    # VLoRA, appendix A: 12 k h^2 in place of 12 C k r h + 14 C k h
    training, inference = (vlora_flops(32, 32, 4096, 8, 64, training=value) for value in (True, False))
    assert inference - training == 12 * 8 * 4096**2 - 12 * 32 * 8 * 64 * 4096 - 14 * 32 * 8 * 4096


def test_every_published_number_is_met() -> None:
    for row in comparisons(7_063_427_072):
        if row.published is not None:
            assert abs(row.ours - row.published) < (1 if row.unit == "GFLOPs" else 0.005), row.what


def test_vlora_profile_trains_the_published_generator_and_the_language_model(tmp_path: Path) -> None:
    # VLoRA, section 4.1: d 512, 8 blocks, rank 64, 8 queries; Vicuna-7B, its vocabulary with the added tokens
    settings = Path(shutil.copy(profiles.FOLDER.parent.parent / "params.yaml", tmp_path / "params.yaml"))
    profiles.apply("vlora", settings)
    counted = parameters_by_part(skeleton(load_params(settings), "language_model"))
    assert counted["vlora"] == (851_891_712, True)
    assert counted["language model"][1]
    assert not counted["vision tower"][1]


def test_hours_of_llava_are_passes_over_the_model_at_a_rate() -> None:
    rows = hours_of_llava({"7b": 10 * 10**12, "13b": 20 * 10**12}, 128, 1e14)
    assert [row.published for row in rows] == [3.5, 10.0, 5.5, 20.0]  # LLaVA's README
    vision = 24 * 577 * 24 * 1024**2 + 4 * 577**2 * 24 * 1024
    assert rows[0].ours == pytest.approx(558_000 * (vision + 3 * 10e12) / 8e14 / 3600)
    assert rows[1].ours == pytest.approx(665_000 * (vision + 4 * 10e12) / 8e14 / 3600)
